"""Import of other projects' checkpoints: what a file holds, the families that are known, and one module for each."""
