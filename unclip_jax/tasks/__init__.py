"""Training tasks, one per file, each of which implements `training.task.Task` for one network."""
