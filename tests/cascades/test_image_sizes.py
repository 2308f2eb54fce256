"""Non-square images: (height, width) in specs, networks and cascades."""

import json

import jax
import numpy as np
import pytest

from tests.randomised import randomise
from unclip_jax import images
from unclip_jax.__main__ import main
from unclip_jax.cascades.class_to_image import class_to_image
from unclip_jax.cascades.folder_writing import StageFiles, write_stages
from unclip_jax.cascades.loading import load_cascade
from unclip_jax.kinds import kind_of
from unclip_jax.models.network import parameter_shapes
from unclip_jax.stages.spec import from_json

UNET = {"channels": 8, "channel_mult": [1, 2], "res_blocks": 1, "groups": 4}
DIFFUSION = {"schedule": "cosine", "steps": 100, "predicts": "x0", "variance": "fixed_small", "clip_x0": 1.0}
SAMPLING = {"sampler": "ddim", "steps": 3}


def config(kind: str, size, low_res_size=None, **model) -> dict:
    content = {"schema": 2, "kind": kind, "model": {"image_size": size, **UNET, **model}, "diffusion": DIFFUSION}
    return {**content, "sampling": SAMPLING, **({} if low_res_size is None else {"low_res_size": low_res_size})}


def write(folder, configs: dict) -> None:
    stages = {}
    for name, content in configs.items():
        spec = from_json(name, content, where=name)
        params = randomise(parameter_shapes(kind_of(spec).build(spec, where=name)), seed=1)
        stages[name] = StageFiles(spec, params)
    write_stages(folder, stages)


def load(folder):
    return load_cascade(folder, devices=jax.local_devices()[:1])


ALONE = {"unet": config("unet", [16, 24], attention_resolutions=[8], head_channels=8, num_classes=4)}
TWO = {"small": config("unet", [8, 12]), "large": config("upsampler", [16, 24], [8, 12])}
ADM = {"small": config("unet", [8, 12]), "large": config("unet", [16, 24], [8, 12], in_channels=6)}


def test_unet_generates_non_square_images(tmp_path):
    write(tmp_path / "cascade", ALONE)
    cascade = load(tmp_path / "cascade")
    assert cascade.stages["unet"].module.image_size == (16, 24)
    assert json.loads((tmp_path / "cascade/unet/config.json").read_text())["model"]["image_size"] == [16, 24]
    assert cascade.stages["unet"].spec.to_json() == ALONE["unet"]
    made = class_to_image(cascade, [1, 3], count=2, seed=5)
    assert made.shape == (4, 16, 24, 3) and made.dtype == np.uint8
    assert np.std(made) > 10 and np.any(made[:2] != made[2:])


@pytest.mark.parametrize("stages", [TWO, ADM], ids=["upsampler", "unet"])
def test_upsampler_generates_non_square_images(tmp_path, stages):
    write(tmp_path / "cascade", dict(reversed(stages.items())))
    cascade = load(tmp_path / "cascade")
    assert list(cascade.stages) == ["small", "large"]  # ordered by size, not as written
    assert cascade.stages["large"].spec.low_res_size == (8, 12)
    assert {name: stage.spec.to_json() for name, stage in cascade.stages.items()} == stages
    assert class_to_image(cascade, count=2).shape == (2, 16, 24, 3)
    assert class_to_image(cascade, count=2, stop_after="small").shape == (2, 8, 12, 3)
    out = tmp_path / "made.png"
    assert main(["generate", "--cascade", str(tmp_path / "cascade"), "--count", "2", "--out", str(out)]) == 0
    assert images.read_image(out).shape == (16, 2 * 24 + 2, 3)


@pytest.mark.parametrize("low_res_size", [[12, 8], 8, [8, 8]])
def test_mismatched_low_res_size_is_rejected(tmp_path, low_res_size):
    write(tmp_path / "cascade", {"small": TWO["small"], "large": config("upsampler", [16, 24], low_res_size)})
    with pytest.raises(ValueError, match=r"low_res_size of large must be \(8, 12\), the size of small's images, got"):
        class_to_image(load(tmp_path / "cascade"))
