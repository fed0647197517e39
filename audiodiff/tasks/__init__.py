"""Jobs on a loaded model: generation, restoration, editing, anomaly detection, features, noise schedules."""
