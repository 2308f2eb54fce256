"""Every field of a training batch, once. A batch is a dict; a stage uses the fields that it needs.

| field | type and shape | what it is |
|---|---|---|
| `image` | uint8 "B H W 3" | the picture that the stage learns to make, or to embed |
| `clip_image` | uint8 "B S S 3" | the whole scene for the frozen CLIP's image tower, where `image` is of another size |
| `low_res` | float32 "B h w 3", [-1, 1] | an upsampler's input: shrunk and corrupted, not yet enlarged |
| `tokens` | int32 "B L" | the caption's tokens |
| `row` | int32 "B" | global number of the row, step * global batch + place; all randomness of the row hangs on it |
| `record` | int32 "B" | the record in the data set that the row was made from |
"""

import jax.numpy as jnp

from unclip_jax.arrays import Bool, Int


def empty_captions(tokens: Int["B L"], drop: Bool["B"], empty: Int["L"]) -> Int["B L"]:
    """Drops captions for classifier-free guidance: where `drop` is True, the empty caption's tokens stand instead, put
    in place before the text encoder runs."""
    return jnp.where(drop[:, None], empty[None, :], tokens)
