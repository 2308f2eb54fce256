"""Karlo, in its original layout and in that of diffusers."""
