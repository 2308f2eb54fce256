"""Diffusion models, upsamplers and classifiers of guided-diffusion."""
