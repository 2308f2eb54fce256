"""What is learned: one task a file, each a training.task.Task over one network."""
