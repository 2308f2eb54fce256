"""What is made: cascades of trained stages, on disk and sampled."""
