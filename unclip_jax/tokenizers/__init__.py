"""Tokenizers that read the folder formats of transformers."""
