"""Loading of cascades from any supported source."""

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
    """Loads a bundled cascade, a cascade folder, or a published model.

    Parameters are transferred to the devices in small pieces, so a few hundred MB of host memory are enough for a model
    of any size. If a folder contains several priors, the first one is used. The others stay in host memory until a call
    selects one with `prior=`.

    Args:
      source: Name of a bundled cascade, a folder, a file of published weights, or a hub id.
      stages: Names of the stages to load, or a function from {name: spec} of all stages to these names. If None, all
        stages.
      devices: The local devices to sample on. If None, all local devices.
      dtype: Compute dtype, and dtype of kernels and embeddings in memory: "float32", "bfloat16", or "auto", which
        depends on the devices (see `precision`). Use "float32", which keeps the exact parameters, for training and
        export.
      clip: File, folder or hub id of the CLIP model, for published models that do not include one.
      tokenizer: Folder or hub id of a tokenizer that replaces that of a published model. If None, a model with a text
        encoder must include one.

    Raises:
      ValueError: If the source, a stage or the dtype is unknown, if the source is damaged or inconsistent, or if `clip`
        or `tokenizer` is given for a cascade, which includes both.
    """
    devices = devices or jax.local_devices()
    if is_cascade(source) or not (epath.Path(source).exists() or hub.is_id(source)):
        for name, value in (("clip", clip), ("tokenizer", tokenizer)):
            if value is not None:
                raise ValueError(f"{name} must be None for the cascade {str(source)!r}, got {str(value)!r}.")
        return folder.open_folder(source, stages=stages, devices=devices, dtype=dtype)
    published = recognize(source, clip=clip, tokenizer=tokenizer)
    return open_published(published, source=str(source), stages=stages, devices=devices, dtype=dtype)
