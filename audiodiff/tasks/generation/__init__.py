"""Generate files of sound from recordings, mel spectrograms, labels or noise."""
