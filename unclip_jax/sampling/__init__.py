"""Batched inference on the local devices: diffusion sampling and encoders."""
