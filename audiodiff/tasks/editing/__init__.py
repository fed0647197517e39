"""Edit recordings, and augment training data with varied copies."""
