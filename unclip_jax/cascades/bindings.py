"""Each kind of network as the sampler calls it.

A binding is (module, params, conditions, shared, guided) -> the network as a function of (x, t). The conditions are a
row each; shared is what all rows share. Under classifier-free guidance a network answers 2B rows in one call, the
conditional half first: the other half of the prior and of GLIDE sees the empty caption, that of the decoder neither
embedding nor caption. What enlarges a low-resolution picture, and class labels, are not guided.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from unclip_jax import images
from unclip_jax.arrays import Float, PyTree
from unclip_jax.cascades.sampling import Bind
from unclip_jax.diffusion.denoiser import Network
from unclip_jax.models.clip import TextFeatures

# Kinds of network that have no unconditional half.
UNGUIDED = ("upsampler", "unet")


def prior(module: nn.Module, params: PyTree, text: TextFeatures, empty: TextFeatures, guided: bool) -> Network:
    """text: the captions' features.  empty: the empty caption's."""
    text = _with_empty(text, empty) if guided else text
    return lambda z, t: module.apply({"params": params}, z, t, text)


def decoder(module: nn.Module, params: PyTree, conditions: PyTree, empty: TextFeatures, guided: bool) -> Network:
    """conditions: raw image embeddings and captions' features, and no low-resolution picture."""
    (z, text), _ = conditions
    if not guided:
        return lambda x, t: module.apply({"params": params}, x, t, z, text)
    drop = jnp.arange(2 * len(z)) >= len(z)
    z, text = jnp.concatenate([z, z]), _with_empty(text, empty)
    return lambda x, t: module.apply({"params": params}, x, t, z, text, drop_image=drop)


def upsampler(module: nn.Module, params: PyTree, conditions: PyTree, shared: None, guided: bool) -> Network:
    """conditions: nothing, and low-resolution pictures in [-1, 1]."""
    enlarged = images.resize(conditions[1], module.image_size)
    return lambda x, t: module.apply({"params": params}, x, t, enlarged)


def glide(module: nn.Module, params: PyTree, conditions: PyTree, empty: PyTree, guided: bool) -> Network:
    """conditions: captions' tokens and mask, and low-resolution pictures or None.  empty: the empty caption's tokens
    and mask. A network for inpainting is told that nothing is known."""
    captions, low_res = conditions
    captions = _with_empty(captions, empty) if guided else captions
    rows = len(captions[0])
    known = jnp.zeros((rows, module.image_size, module.image_size, 4 if module.in_channels in INPAINTING else 0))
    behind = known if low_res is None else jnp.concatenate([known, _twice(_enlarged(low_res, module), rows)], axis=-1)
    return lambda x, t: module.apply({"params": params}, x, t, *captions, extra_channels=behind)


def unet(module: nn.Module, params: PyTree, conditions: PyTree, shared: None, guided: bool) -> Network:
    """conditions: class labels or None, and low-resolution pictures or None."""
    labels, low_res = conditions
    if low_res is None:
        return lambda x, t: module.apply({"params": params}, x, t, labels=labels)
    enlarged = _enlarged(low_res, module)
    return lambda x, t: module.apply({"params": params}, jnp.concatenate([x, enlarged], axis=-1), t, labels=labels)


# The stages that make pictures, by kind. Their conditions are a pair: what the kind sees, and low-resolution pictures.
PAINTERS: Mapping[str, Bind] = {"decoder": decoder, "upsampler": upsampler, "glide": glide, "unet": unet}
# Channels of the noised picture and what stands behind it: the low-resolution picture, the known part with its mask.
ENLARGING, INPAINTING = (6, 10), (7, 10)


def enlarges(module: nn.Module) -> bool:
    """Whether a painter needs a low-resolution picture."""
    return module.in_channels in ENLARGING


def _enlarged(low_res: Float["B h w 3"], module: nn.Module) -> Float["B H W 3"]:
    """As GLIDE and ADM enlarge what a file of 8 bits could hold."""
    return images.resize(images.to_unit(images.to_uint8(low_res)), module.image_size, method="bilinear")


def _twice(x: jax.Array, rows: int) -> jax.Array:
    """The rows, or the rows and once more the rows, where so many are wanted."""
    return x if len(x) == rows else jnp.concatenate([x, x])


def _with_empty(captions: Any, empty: Any) -> Any:
    """What says the captions, and behind it as many rows of what says the empty one."""
    return jax.tree.map(lambda x, e: jnp.concatenate([x, jnp.broadcast_to(e, x.shape)]), captions, empty)
