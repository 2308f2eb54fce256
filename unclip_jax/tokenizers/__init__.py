"""Tokenizers: captions to rows of token ids, in the folder formats of transformers."""
