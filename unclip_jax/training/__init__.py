"""How a stage is trained, whatever it learns: one sharded step, its optimizer, checkpoints, metrics and the loop."""
