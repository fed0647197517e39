"""Files and the console: audio and mel files, jobs, readers, writers, messages."""
