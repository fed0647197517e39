"""Evaluation of files of sound: pairs of recordings, and sets of generated sounds."""
