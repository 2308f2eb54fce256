"""Samplers: from x_T to x_0, one file each. All of them run in `sampler.sample`."""
