"""The diffusion models, upsamplers and classifiers of guided-diffusion."""
