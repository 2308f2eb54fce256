"""ADM's classifier of noisy images, whose gradient guides a diffusion model toward a class.

Stages of this kind can be loaded. Guidance by them is not implemented yet.
"""

from unclip_jax.kinds.kind import StageKind
from unclip_jax.models.noised_classifier import NoisedClassifier

KIND = StageKind(name="noised_classifier", network=NoisedClassifier, produces="guide")
