"""A guide of another package: it reads the color words of captions itself and pushes images towards these colors."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from unclip_jax.kinds.kind import StageKind
from unclip_jax.sampling.transforms import DenoiserTransform
from unclip_jax.stages.conditions import Conditions, Tokens

COLORS = ("red", "green", "blue")


class ColorGuide(nn.Module):
    """log p(colors | x_t) up to a constant: the sum over pixels of their channels, weighted by `strength`."""

    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x, colors):
        strength = self.param("strength", nn.initializers.ones, (3,))
        return jnp.sum(x * (strength * colors)[:, None, None], axis=(1, 2, 3))

    def example_inputs(self):
        return {"x": jnp.zeros((1, 8, 8, 3)), "colors": jnp.zeros((1, 3))}


def encode_text(stage, captions) -> Conditions:
    ids = np.array([[color in caption.split() for color in COLORS] for caption in captions], np.int32)
    return Conditions(tokens={stage.name: Tokens(ids, np.ones_like(ids, bool))})


def with_gradient(denoiser, schedule, rows, shared):
    """The gradient of log p is the same at every pixel."""

    def guided(x_t, t):
        color = shared["scale"] * shared["params"]["strength"] * rows["colors"]
        return denoiser(x_t, t).replace(gradient=jnp.broadcast_to(color[:, None, None], x_t.shape))

    return guided


def guide(stage, conditions, scale) -> DenoiserTransform:
    colors = conditions.tokens[stage.name].ids.astype(np.float32)
    return DenoiserTransform(
        with_gradient, rows={"colors": colors}, shared={"params": stage.params, "scale": np.float32(scale)}
    )


KIND = StageKind(
    name="color_guide",
    network=ColorGuide,
    produces="guide",
    encode_text=encode_text,
    guide=guide,
)
