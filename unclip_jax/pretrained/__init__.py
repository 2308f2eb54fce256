"""Weights that others have published: reading their files, and giving their tensors this package's names and axes."""
