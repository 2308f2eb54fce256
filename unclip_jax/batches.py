"""Every field of a training batch, once. A batch is a dict; a stage uses the fields that it needs.

| field | type and shape | what it is |
|---|---|---|
| `image` | uint8 "B H W 3" | the picture that the stage learns to make, or to embed |
| `clip_image` | uint8 "B S S 3" | the whole scene for the frozen CLIP's image tower, where `image` is of another size |
| `embedding` | float32 "B E" | CLIP's embedding of the picture, raw, where it was stored; there is no `image` then |
| `low_res` | float32 "B h w 3", [-1, 1] | an upsampler's input: shrunk and corrupted, not yet enlarged |
| `tokens` | int32 "B L" | the caption's tokens |
| `wrong_tokens` | int32 "B L" | those of the same words but for one thing that the picture does not show |
| `moments` | float32 "B M" | what the picture shows in numbers, as in `data.captioned_shapes.scene_targets` |
| `row` | int32 "B" | global number of the row, step * global batch + place; all randomness of the row hangs on it |
| `record` | int32 "B" | the record in the data set that the row was made from |
"""

import jax
import jax.numpy as jnp

from unclip_jax.arrays import Bool, Int, PyTree


def empty_captions(tokens: Int["B L"], drop: Bool["B"], empty: Int["L"]) -> Int["B L"]:
    """Drops captions for classifier-free guidance: where `drop` is True, the empty caption's tokens stand instead, put
    in place before the text encoder runs."""
    return jnp.where(drop[:, None], empty[None, :], tokens)


def split_rows(batch: PyTree, parts: int) -> PyTree:
    """Arrays [B, ...] as [parts, B / parts, ...]; part j has the rows j, j + parts, j + 2 parts, ...

    So a device that holds neighbouring rows gives of its own to every part, and none has to travel. `parts` divides B.
    """
    return jax.tree.map(lambda rows: rows.reshape(-1, parts, *rows.shape[1:]).swapaxes(0, 1), batch)


def join_rows(parts: PyTree) -> PyTree:
    """The inverse of `split_rows`."""
    return jax.tree.map(lambda rows: rows.swapaxes(0, 1).reshape(-1, *rows.shape[2:]), parts)
