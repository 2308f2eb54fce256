"""GLIDE, and its CLIP for noisy images."""
