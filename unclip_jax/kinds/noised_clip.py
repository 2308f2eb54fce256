"""GLIDE's CLIP for noisy images, whose gradient guides a diffusion model toward a caption.

Stages of this kind can be loaded. Guidance by them is not implemented yet.
"""

from unclip_jax.kinds.kind import StageKind
from unclip_jax.models.noised_clip import NoisedCLIP

KIND = StageKind(name="noised_clip", network=NoisedCLIP, produces="guide")
