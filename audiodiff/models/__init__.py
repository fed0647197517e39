"""Models: denoisers that generate sound, mel inverters, vocoders, classifiers, and their checkpoints."""
