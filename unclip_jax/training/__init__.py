"""Training of a stage, whatever its task: compiled functions, optimizer, checkpoints, logging and the loop."""
