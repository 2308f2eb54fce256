"""Code examples of unclip_jax/README.md. Those that extend the package are tested in tests/outside."""

import numpy as np
import pytest
from PIL import Image

from tests.readme_examples import ROOT, examples, run

EXAMPLES = examples("unclip_jax/README.md")


def test_readme_has_five_uses_and_five_extensions():
    assert sum(title.startswith("Add a ") for title in EXAMPLES) == 5 and len(EXAMPLES) == 10


@pytest.mark.slow
def test_own_denoiser_example_learns_the_spiral():
    names = run(EXAMPLES["Sample with your own denoiser"])
    points, spiral = np.asarray(names["points"]), np.asarray(names["spiral"])
    assert points.shape == (1000, 2)

    def distances(a, b):
        return np.sqrt(((a[:, None] - b[None]) ** 2).sum(-1)).min(axis=1)

    assert np.mean(distances(points, spiral)) < 0.12  # the turns are 0.63 apart
    assert np.mean(distances(spiral[:1000], points)) < 0.06  # all parts of the spiral are covered
    blind = np.random.default_rng(0).standard_normal((1000, 2)) * points.std(axis=0)
    assert np.mean(distances(blind, spiral)) > 0.2


def test_clip_example_ranks_the_star_first():
    assert run(EXAMPLES["Embed images and rank them by a caption"])["best"] == 1


@pytest.mark.slow
def test_training_example_trains_a_stage(tmp_path, monkeypatch):
    random = np.random.default_rng(0)
    folder = tmp_path / "images"
    folder.mkdir()
    for index in range(40):
        image = np.kron(random.integers(0, 256, (4, 4, 3)), np.ones((20, 20, 1))).astype(np.uint8)
        Image.fromarray(image).save(folder / f"{index}.png")
        (folder / f"{index}.txt").write_text(f"image number {index}")
    config = str(ROOT / "configs/shapes/upsampler_16_to_64.py")
    monkeypatch.chdir(tmp_path)
    names = run(EXAMPLES["Train one stage on your own folder"], {"configs/shapes/upsampler_16_to_64.py": config})
    assert names["steps"] == 20
    stage = tmp_path / "runs/cascade_parts/upsampler_16_to_64"
    assert (stage / "params.safetensors").stat().st_size > 10_000


def test_unet_example_samples_with_guidance():
    made = run(EXAMPLES["Sample with your own U-Net, guided"])["samples"]
    assert made.shape == (2, 16, 16, 3) and np.isfinite(made).all() and np.abs(made).max() <= 1.0


def test_schedule_example_recovers_x0():
    names = run(EXAMPLES["Step a schedule by hand"])
    np.testing.assert_allclose(names["clean"], names["x0"], atol=1e-5)
