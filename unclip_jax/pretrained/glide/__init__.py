"""GLIDE and its CLIP model for noisy images."""
