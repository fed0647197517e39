"""Signal processing: STFT, mel spectrograms and their inversion, resampling, pitch, levels, linear prediction."""
