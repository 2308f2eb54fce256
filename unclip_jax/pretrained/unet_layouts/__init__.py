"""U-Net layouts of published models: tensor names and network fields."""
