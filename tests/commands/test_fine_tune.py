"""Fine-tuning of published weights: an imported decoder, and a prior for an imported CLIP model."""

import json
import pathlib

import numpy as np
import pytest
from PIL import Image

from tests.cascades.published import load, write_pipeline
from unclip_jax import parameters
from unclip_jax.__main__ import main
from unclip_jax.cascades.loading import load_cascade

pytestmark = pytest.mark.usefixtures("one_device")

CONFIGS = pathlib.Path(__file__).parents[2] / "configs"
SHORT = [
    "training.global_batch=8", "training.eval_every=0", "training.preview_every=0", "training.log_every=1",
    "data.threads=0",
]  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Eight captioned images per split, and an imported Karlo with both CLIP encoders."""
    folder = tmp_path_factory.mktemp("fine_tune")
    rng = np.random.default_rng(0)
    for split in ("train", "test"):
        (folder / "images" / split).mkdir(parents=True)
        for index in range(8):
            coarse = rng.integers(0, 256, (4, 4, 3), np.uint8)
            image = Image.fromarray(coarse).resize((48, 48), Image.BICUBIC)
            image.save(folder / "images" / split / f"{index}.png")
            (folder / "images" / split / f"{index}.txt").write_text(f"no {index}\n")
    (folder / "published").mkdir()
    write_pipeline(folder / "published", load("karlo-variations")[1])
    assert main(["import-weights", str(folder / "published"), "--out", str(folder / "karlo")]) == 0
    return folder


def train(config, workdir, folder, *overrides):
    fields = [*SHORT, f"data.dir={folder / 'images'}", *overrides]
    return main(["train", f"--config={config}", f"--workdir={workdir}", *(f"--config.{field}" for field in fields)])


def package(workdir, folder, cascade):
    assert main(["package", str(workdir), "--clip", str(folder / "karlo"), "--out", str(cascade)]) == 0


def losses(workdir):
    return [json.loads(line)["loss"] for line in (workdir / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_fine_tuning_imported_decoder_starts_from_its_weights_and_reduces_loss(folder, tmp_path):
    config = f"{CONFIGS / 'fine_tune.py'}:{folder / 'karlo/decoder'}"
    unchanged = ["training.steps=1", "optimizer.learning_rate=0.0"]
    assert train(config, tmp_path / "unchanged", folder, *unchanged) == 0
    package(tmp_path / "unchanged", folder, tmp_path / "packaged")
    kept, imported = (load_cascade(path).stages["decoder"] for path in (tmp_path / "packaged", folder / "karlo"))
    assert kept.spec.model.items() >= imported.spec.model.items()
    expected = parameters.flatten(imported.params)
    for name, value in parameters.flatten(kept.params).items():
        np.testing.assert_allclose(value, expected[name], rtol=2e-3, atol=1e-6, err_msg=name)  # stored as float16

    assert train(config, tmp_path / "tuned", folder, "training.steps=40", "optimizer.learning_rate=3e-3") == 0
    steps = losses(tmp_path / "tuned")
    assert np.mean(steps[-8:]) < np.mean(steps[:8]) / 2


@pytest.mark.slow
def test_prior_trains_with_imported_clip(folder, tmp_path):
    model = ["model.embed_dim=32", "model.text_width=32", "model.context_length=12", "model.width=24", "model.layers=1"]
    prior = CONFIGS / "shapes/diffusion_prior.py"
    frozen = [f"encoders.clip={folder / 'karlo'}", "data.source=folder", "data.image_size=32"]
    assert train(prior, tmp_path / "prior", folder, *model, *frozen, "training.steps=30") == 0
    steps = losses(tmp_path / "prior")
    assert len(steps) == 30 and np.mean(steps[-5:]) < np.mean(steps[:5])
    package(tmp_path / "prior", folder, tmp_path / "packaged")
    assert load_cascade(tmp_path / "packaged").stages["diffusion_prior"].extras["statistics"]["mean"].shape == (32,)


@pytest.mark.parametrize(
    ("stage", "message"),
    [("clip", "stage must be of kind decoder or upsampler, got "), ("nothing", "cannot be read as JSON")],
)
def test_fine_tuning_unsupported_stage_prints_one_line(folder, tmp_path, capsys, stage, message):
    assert train(f"{CONFIGS / 'fine_tune.py'}:{folder / 'karlo' / stage}", tmp_path / "run", folder) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not (tmp_path / "run").exists()
