"""How a CLIP image embedding enters a U-Net (unCLIP, arXiv 2204.06125, section 2.1): added to the embedding of time,
and as tokens before those of the caption. For modules with the fields embed_dim, image_tokens, channels and dtype,
within whose `__call__` these stand.
"""

import flax.linen as nn
import jax.numpy as jnp

from unclip_jax.arrays import Bool, Float
from unclip_jax.models.layers import published_init


def or_null(module: nn.Module, image_embedding: Float["B E"], drop_image: Bool["B"] | None) -> Float["B E"]:
    """The embeddings, with the learned vector `null_image` in place of those of the dropped rows; None: no row is."""
    null = module.param("null_image", nn.initializers.normal(1.0), (module.embed_dim,))
    return image_embedding if drop_image is None else jnp.where(drop_image[:, None], null, image_embedding)


def to_time(module: nn.Module, name: str) -> nn.Dense:
    """The linear map, of that name, of what is added to the embedding of time."""
    return nn.Dense(4 * module.channels, kernel_init=published_init, name=name)


def image_tokens(module: nn.Module, image_embedding: Float["B E"], width: int) -> Float["B T D"]:
    """`module.image_tokens` tokens of that width, by the linear map `image_to_tokens`.

    Its kernel is [E, D, T]: in the published weights the token is the fastest index of its rows.
    """
    tokens = nn.DenseGeneral(
        (width, module.image_tokens), dtype=module.dtype, kernel_init=published_init, name="image_to_tokens"
    )(image_embedding)
    return tokens.swapaxes(1, 2)
