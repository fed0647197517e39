"""A benchmark for each job: `python -m benchmarks.jobs.JOB --data DIR --out DIR`."""
