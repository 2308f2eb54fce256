"""Loading a cascade, whatever it lies in."""

from collections.abc import Sequence

import jax
from etils import epath

from unclip_jax.cascades import folder
from unclip_jax.cascades.cascade import Cascade
from unclip_jax.cascades.published import open_published, recognize
from unclip_jax.cascades.sources import is_cascade
from unclip_jax.models.precision import AUTO
from unclip_jax.pretrained import hub


def load_cascade(
    source: epath.PathLike,
    *,
    stages: Sequence[str] | folder.ChooseStages | None = None,
    devices: Sequence[jax.Device] | None = None,
    dtype: str = AUTO,
    clip: epath.PathLike | None = None,
    tokenizer: epath.PathLike | None = None,
) -> Cascade:
    """Loads a bundled cascade by name, a cascade folder, or a published model.

    Parameters go straight to the devices, one piece at a time, so a few hundred MB of host memory suffice for any size.
    Of several priors in a folder, the first does; the others stay in host memory until a call chooses one (`prior=`).

    Args:
      source: A bundled name, a folder, a file of published weights, or a hub id.
      stages: Names of the stages to load, or a function that returns them from all specs by name. If None, all.
      devices: The local devices that sample. If None, all of this process.
      dtype: In which the networks compute, and their kernels and embeddings are held: "float32", "bfloat16", or "auto",
        by the devices (see `precision`). "float32" is exact: use it to train on the parameters, or to export them.
      clip: File, folder or hub id of the CLIP of a published model that has none.
      tokenizer: Folder or hub id of the tokenizer of a published model that has none.

    Raises:
      ValueError: For an unknown source, stage or dtype, for a folder that is not what it says, and for a CLIP or a
        tokenizer given with a cascade folder, which has both.
    """
    devices = devices or jax.local_devices()
    if is_cascade(source) or not (epath.Path(source).exists() or hub.is_id(source)):
        for name, given in (("clip", clip), ("tokenizer", tokenizer)):
            if given is not None:
                raise ValueError(f"{name} is {str(given)!r}, and {str(source)!r} is a cascade, which brings its own")
        return folder.open_folder(source, stages=stages, devices=devices, dtype=dtype)
    published = recognize(source, clip=clip, tokenizer=tokenizer)
    return open_published(published, source=str(source), stages=stages, devices=devices, dtype=dtype)
