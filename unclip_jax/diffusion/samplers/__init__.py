"""Samplers: from x_T to x_0, one file each. All of them run in `sampler.sample`; `SAMPLERS` is the table of them."""

from unclip_jax.diffusion.samplers.table import SAMPLERS, SamplerOptions

__all__ = ["SAMPLERS", "SamplerOptions"]
