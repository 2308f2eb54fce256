"""Opening a cascade, whatever it lies in."""

from collections.abc import Sequence

import jax
from etils import epath

from unclip_jax.cascades import folder
from unclip_jax.cascades.cascade import Cascade
from unclip_jax.cascades.published_cascade import open_published, recognise
from unclip_jax.models.precision import AUTO
from unclip_jax.pretrained import hub


def load_cascade(
    source: epath.PathLike,
    *,
    stages: Sequence[str] | None = None,
    devices: Sequence[jax.Device] | None = None,
    dtype: str = AUTO,
    clip: epath.PathLike | None = None,
    tokenizer: epath.PathLike | None = None,
) -> Cascade:
    """Opens a bundled cascade by name, a cascade folder, or a published model: a file, a folder, or its hub's name.

    The parameters go straight to the devices, a piece at a time: beside them a few hundred MB of memory are needed, of
    whatever size they are.

    Args:
      stages: names of those to load; None: all.
      devices: the local devices that sample; None: all of this process.
      dtype: in which the networks compute, and their kernels and embeddings lie on the devices: "float32", "bfloat16",
        or "auto", by the devices (see `precision`). "float32" is exact: to train on them, or to export them.
      clip: file, folder or hub's name of the CLIP of a published model that brings none.
      tokenizer: folder or hub's name of the tokenizer of a published model that brings none.

    Raises ValueError for an unknown source, stage or dtype, for a folder that is not what it says, and for a CLIP or
    a tokenizer given to a cascade folder, which brings both.
    """
    devices = devices or jax.local_devices()
    if folder.is_cascade(source) or not (epath.Path(source).exists() or hub.is_id(source)):
        for name, given in (("clip", clip), ("tokenizer", tokenizer)):
            if given is not None:
                raise ValueError(f"{name} is {str(given)!r}, and {str(source)!r} is a cascade, which brings its own")
        return folder.open_folder(source, stages=stages, devices=devices, dtype=dtype)
    published = recognise(source, clip=clip, tokenizer=tokenizer)
    return open_published(published, source=str(source), stages=stages, devices=devices, dtype=dtype)
