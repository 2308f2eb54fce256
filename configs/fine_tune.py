"""A decoder or an upsampler of any cascade, trained on from its weights; the stage's folder stands behind a colon.

Architecture: the stage's own, and so are schedule and sampling.
Expected: what the stage knows, and what the new pictures add to it. The learning rate is low, and held.
Run:      unclip train --config=configs/fine_tune.py:runs/karlo/decoder --workdir=runs/fine_tuned \
              --config.data.dir=PICTURES
"""

import re

from ml_collections import ConfigDict

from unclip_jax.cascades.folder import CONFIG
from unclip_jax.experiment import default_config
from unclip_jax.files import read_json

KINDS = ("decoder", "upsampler")


def get_config(stage: str) -> ConfigDict:
    """`stage`: a stage's folder in a cascade. A decoder is trained beside the CLIP of its cascade; where that has no
    image tower, config.frozen.clip and config.data.clip_size must name one that has."""
    folder = stage.rstrip("/")
    cascade, _, name = folder.rpartition("/")
    told = read_json(f"{folder}/{CONFIG}")
    if told.get("kind") not in KINDS:
        raise ValueError(f"{stage!r} is of kind {told.get('kind')!r}; known: {', '.join(KINDS)}")
    config = default_config()
    config.task = ConfigDict({"kind": told["kind"], "stage": name})
    config.model = ConfigDict(told["model"])
    config.diffusion = ConfigDict(told["diffusion"])
    config.sampling = ConfigDict(told["sampling"])
    config.training.init_from = folder

    config.data.source = "folder"
    config.data.image_size = told["model"]["image_size"]
    if told["kind"] == "decoder":
        config.task.drop_image, config.task.drop_text = 0.1, 0.5
        config.frozen.clip = f"{cascade}/clip"
        config.data.captions = True
        config.data.clip_size = read_json(f"{cascade}/clip/{CONFIG}")["model"]["image_size"] or 224
    else:
        config.data.low_res_size = int(re.fullmatch(r".*_(\d+)_to_\d+", name)[1])
        config.data.blur = ConfigDict({"kernel": 3, "sigma": 0.6, "share": 0.5})

    config.optimizer.learning_rate = 1e-5
    config.optimizer.weight_decay = 0.0
    config.training.global_batch = 32
    config.training.steps = 10_000
    return config
