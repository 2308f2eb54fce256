"""Conditioning of a U-Net on a CLIP image embedding.

As in unCLIP (Ramesh et al. 2022, arXiv 2204.06125, Section 2.1), the embedding is added to the time embedding, and
context tokens derived from it precede those of the caption. The functions must be called in the `__call__` of a module
with the fields `embed_dim`, `image_tokens`, `channels` and `dtype`. They create parameters of that module.
"""

import flax.linen as nn
import jax.numpy as jnp

from unclip_jax.arrays import Bool, Float
from unclip_jax.models.layers import torch_default_init


def embedding_or_null(module: nn.Module, image_embedding: Float["B E"], drop_image: Bool["B"] | None) -> Float["B E"]:
    """Replaces dropped image embeddings with the learned null embedding `null_image`.

    Args:
      module: The module that owns the parameter.
      image_embedding: Image embeddings.
      drop_image: True for the rows whose embedding is dropped. If None, none is dropped.
    """
    null = module.param("null_image", nn.initializers.normal(1.0), (module.embed_dim,))
    return image_embedding if drop_image is None else jnp.where(drop_image[:, None], null, image_embedding)


def time_projection(module: nn.Module, name: str) -> nn.Dense:
    """Creates a linear layer that projects a condition to the width of the time embedding."""
    return nn.Dense(4 * module.channels, kernel_init=torch_default_init, name=name)


def image_tokens(module: nn.Module, image_embedding: Float["B E"], width: int) -> Float["B T D"]:
    """Projects image embeddings to `module.image_tokens` tokens each.

    The kernel of the layer `image_to_tokens` is [E, D, T], because the token is the fastest index in the rows of the
    published weights.

    Args:
      module: The module that owns the layer.
      image_embedding: Image embeddings.
      width: Width of the tokens.
    """
    tokens = nn.DenseGeneral(
        (width, module.image_tokens), dtype=module.dtype, kernel_init=torch_default_init, name="image_to_tokens"
    )(image_embedding)
    return tokens.swapaxes(1, 2)
