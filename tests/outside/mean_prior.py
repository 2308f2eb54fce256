"""A second prior, of another package: an embedding by one linear map of the caption's."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from unclip_jax.kinds.kind import CLIP, StageKind
from unclip_jax.models.text_features import TextFeatures, example_text_features
from unclip_jax.sampling.denoising import Denoising


class MeanPrior(nn.Module):
    """Predicts the embedding whatever z_t is."""

    embed_dim: int
    text_width: int
    context_length: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, z_t, t, text: TextFeatures):
        return nn.Dense(self.embed_dim, name="mean")(text.pooled)

    def example_inputs(self):
        return {
            "z_t": jnp.zeros((1, self.embed_dim)),
            "t": jnp.zeros(1, jnp.int32),
            "text": example_text_features(self.embed_dim, self.text_width, self.context_length),
        }


def inputs(stage, conditions):
    return {"text": conditions.text[stage.spec.encoders[CLIP].stage]}


def unconditional(module, inputs, empty):
    return empty


KIND = StageKind(
    name="mean_prior",
    network=MeanPrior,
    produces="embedding",
    roles=lambda module: (CLIP,),
    reads=lambda module: ("text",),
    denoising=Denoising(inputs, unconditional, shape=lambda module: (module.embed_dim,)),
)
