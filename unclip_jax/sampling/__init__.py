"""Running trained networks on rows spread over the local devices: diffusion sampling, and encoders."""
