"""GLIDE's CLIP of noisy images, whose gradient guides a diffusion model to a caption."""

from unclip_jax.kinds.kind import StageKind
from unclip_jax.models.noised_clip import NoisedCLIP

KIND = StageKind(name="noised_clip", network=NoisedCLIP, produces="guide")
