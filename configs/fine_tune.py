r"""Fine-tunes a decoder or upsampler of any cascade.

Pass the stage's folder after a colon.

Architecture: that of the stage, with its noise schedule and sampling settings.
Expected: the stage adapts to the new images. The learning rate is low and constant.
Run:      unclip train --config=configs/fine_tune.py:runs/karlo/decoder --workdir=runs/fine_tuned \
              --config.data.dir=IMAGES
"""

import dataclasses
import pathlib

from ml_collections import ConfigDict

from unclip_jax.cascades.folder import read_specs, read_stage
from unclip_jax.experiment import default_config
from unclip_jax.kinds import KINDS, kind_of
from unclip_jax.stages.spec import StageSpec


def get_config(stage: str) -> ConfigDict:
    """Returns the config that fine-tunes a stage with the encoders of its cascade.

    If the CLIP model of the cascade has no image encoder, set config.encoders.clip to one that has, and
    config.data.clip_size to its image size.

    Args:
      stage: Folder of an image stage in a cascade.

    Raises:
      ValueError: If the stage does not generate images or cannot be trained.
    """
    folder = pathlib.Path(stage)
    spec = read_stage(folder).spec
    kind = kind_of(spec)
    if kind.make_task is None or kind.produces != "image":
        available = [name for name, other in KINDS.items() if other.make_task and other.produces == "image"]
        raise ValueError(f"stage must be of kind {' or '.join(available)}, got {stage!r} of kind {kind.name!r}.")
    config = default_config()
    inputs = {"low_res_size": spec.low_res_size, "mask_channels": spec.mask_channels}
    config.task = ConfigDict({"kind": kind.name, "stage": spec.name, **inputs})
    config.model = ConfigDict(dict(spec.model))
    config.diffusion = ConfigDict(dataclasses.asdict(spec.diffusion))
    config.sampling = ConfigDict(dataclasses.asdict(spec.sampling))
    config.training.init_from = str(folder)

    config.data.source = "folder"
    config.data.image_size = spec.model["image_size"]
    config.data.captions = "tokens" in kind.batch_fields
    for role, encoder in spec.encoders.items():
        config.encoders[role] = str(folder.parent / encoder.stage)
    if "clip_image" in kind.batch_fields:
        config.data.clip_size = clip_size(folder.parent, spec)
    if spec.low_res_size is not None:
        config.data.low_res_size = spec.low_res_size
        config.data.blur = ConfigDict({"kernel": 3, "sigma": 0.6, "share": 0.5})

    config.optimizer.learning_rate = 1e-5
    config.optimizer.weight_decay = 0.0
    config.training.global_batch = 32
    config.training.steps = 10_000
    return config


def clip_size(cascade: pathlib.Path, spec: StageSpec) -> int:
    """Returns the image size of the stage's image encoder, or 224 px if its cascade contains none."""
    specs = read_specs(cascade)
    encoders = [specs[encoder.stage] for encoder in spec.encoders.values() if encoder.stage in specs]
    sizes = [kind_of(one).image_encoder_size(kind_of(one).build(one, where=one.name)) for one in encoders]
    return next((size for size in sizes if size is not None), 224)
