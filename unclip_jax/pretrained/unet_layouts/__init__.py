"""U-Net layouts of published code: the names of their tensors, and the fields of their networks."""
