"""What a stage is: its typed spec, the trained network in memory, and what passes between stages."""
