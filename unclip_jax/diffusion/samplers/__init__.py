"""Diffusion samplers, one per file.

`sampler.sample` runs a sampler, and `SAMPLERS` lists them by name.
"""

from unclip_jax.diffusion.samplers.table import SAMPLERS, SamplerOptions

__all__ = ["SAMPLERS", "SamplerOptions"]
