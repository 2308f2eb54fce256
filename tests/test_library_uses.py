"""The uses that unclip_jax/README.md shows run as they stand, and give what it says."""

import pathlib
import re

import numpy as np
import pytest
from PIL import Image

ROOT = pathlib.Path(__file__).parents[1]
TEXT = (ROOT / "unclip_jax" / "README.md").read_text()
USES = dict(zip(re.findall(r"^## (.*)$", TEXT, re.MULTILINE), re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)))


def run(title, **replaced):
    """The names that a use leaves behind; `replaced` gives a line's value anew."""
    code = USES[title]
    for old, new in replaced.items():
        assert old in code
        code = code.replace(old, new)
    names = {}
    exec(compile(code, title, "exec"), names)
    return names


def test_there_are_five():
    assert len(USES) == 5


@pytest.mark.slow
def test_the_spiral_is_learned():
    names = run("Sample with your own denoiser")
    points, spiral = np.asarray(names["points"]), np.asarray(names["spiral"])
    assert points.shape == (1000, 2)

    def distances(a, b):
        return np.sqrt(((a[:, None] - b[None]) ** 2).sum(-1)).min(axis=1)

    assert np.mean(distances(points, spiral)) < 0.12  # its turns are 0.63 apart
    assert np.mean(distances(spiral[:1000], points)) < 0.06  # every part of it is reached
    blind = np.random.default_rng(0).standard_normal((1000, 2)) * points.std(axis=0)
    assert np.mean(distances(blind, spiral)) > 0.2


def test_the_star_is_found():
    assert run("Embed pictures and rank them by a caption")["best"] == 1


@pytest.mark.slow
def test_a_folder_trains_a_stage(tmp_path, monkeypatch):
    random = np.random.default_rng(0)
    folder = tmp_path / "pictures"
    folder.mkdir()
    for index in range(40):
        picture = np.kron(random.integers(0, 256, (4, 4, 3)), np.ones((20, 20, 1))).astype(np.uint8)
        Image.fromarray(picture).save(folder / f"{index}.png")
        (folder / f"{index}.txt").write_text(f"picture number {index}")
    config = str(ROOT / "configs/shapes/upsampler_16_to_64.py")
    monkeypatch.chdir(tmp_path)
    names = run("Train one stage on your own folder", **{"configs/shapes/upsampler_16_to_64.py": config})
    assert names["steps"] == 20
    stage = tmp_path / "runs/cascade_parts/upsampler_16_to_64"
    assert (stage / "params.safetensors").stat().st_size > 10_000


def test_a_unet_is_sampled_with_guidance():
    made = run("Sample with your own U-Net, guided")["made"]
    assert made.shape == (2, 16, 16, 3) and np.isfinite(made).all() and np.abs(made).max() <= 1.0


def test_a_schedule_is_stepped():
    names = run("Step a schedule by hand")
    np.testing.assert_allclose(names["clean"], names["x0"], atol=1e-5)
