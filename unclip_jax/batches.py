"""Fields of training batches, and functions that drop captions and split batches.

A batch is a dict. Each task reads the fields that it needs.

| field | type and shape | content |
|---|---|---|
| `image` | uint8 "B H W 3" | the image that the stage learns to generate or to embed |
| `clip_image` | uint8 "B S S 3" | the full image for the frozen CLIP, not cropped; S is `clip_size` of `DataSpec` |
| `embedding` | float32 "B E" | precomputed CLIP image embedding, not normalized; replaces `image` |
| `low_res` | float32 "B h w 3", [-1, 1] | input of an upsampler: downscaled and corrupted, not yet upsampled |
| `tokens` | int32 "B L" | tokens of the caption |
| `wrong_tokens` | int32 "B L" | tokens of a negative caption, which has one detail that the image does not show |
| `moments` | float32 "B M" | regression targets that describe the scene; see `data.captioned_shapes.scene_targets` |
| `row` | int32 "B" | global row number, step * global batch size + index; seeds all randomness of the row |
| `record` | int32 "B" | index of the dataset record that the row was made from |
"""

import einops
import jax
import jax.numpy as jnp

from unclip_jax.arrays import Bool, Int, PyTree


def empty_captions(tokens: Int["B L"], drop: Bool["B"], empty: Int["L"]) -> Int["B L"]:
    """Drops captions for classifier-free guidance by replacing them with the empty caption.

    The tokens are replaced before the text encoder runs, so no null text embedding is needed.

    Args:
      tokens: Tokens of the captions.
      drop: True for the rows whose caption is dropped.
      empty: Tokens of the empty caption.
    """
    return jnp.where(drop[:, None], empty[None, :], tokens)


def split_rows(batch: PyTree, parts: int) -> PyTree:
    """Splits the rows of a batch into micro-batches: [B, ...] becomes [parts, B / parts, ...].

    Micro-batch j consists of the rows j, j + parts, j + 2 * parts, and so on. A device that holds consecutive rows
    therefore contributes to every micro-batch, and no rows are transferred between devices.

    Args:
      batch: Arrays with B rows.
      parts: Number of micro-batches. Must divide B.
    """
    return jax.tree.map(lambda rows: einops.rearrange(rows, "(b p) ... -> p b ...", p=parts), batch)


def join_rows(parts: PyTree) -> PyTree:
    """Merges micro-batches back into one batch, as the inverse of `split_rows`."""
    return jax.tree.map(lambda rows: einops.rearrange(rows, "p b ... -> (b p) ..."), parts)
