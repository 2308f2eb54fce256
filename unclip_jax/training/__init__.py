"""Task-independent training: compiled functions, optimizer, checkpoints, logging and the loop."""
