"""launch/train_folder.sh: trains a cascade on a folder of captioned images."""

import pathlib
import re
import subprocess

import numpy as np
import pytest
from PIL import Image

from tests.commands.test_package import TINY
from unclip_jax import parameters
from unclip_jax.cascades.embedding import load_clip
from unclip_jax.cascades.loading import load_cascade
from unclip_jax.data.embedding_store import read_manifest

ROOT = pathlib.Path(__file__).parents[1]
SCRIPT = ROOT / "launch/train_folder.sh"
SHORT = ["training.steps=2", "training.global_batch=8", "training.eval_every=0", "training.preview_every=0"]
CONFIG = """import runpy
def get_config():
    config = runpy.run_path({path!r})["get_config"]()
    {fields}
    return config
"""


def run(*arguments, cwd):
    return subprocess.run(["bash", SCRIPT, *map(str, arguments)], cwd=cwd, capture_output=True, text=True)


@pytest.fixture
def folder(tmp_path):
    """A folder with 24 uniformly colored images, eight of them in the test split, and tiny configs."""
    for index in range(24):
        split = tmp_path / "images" / ("test" if index >= 16 else "train")
        split.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (256, 300), (10 * index, 0, 255 - 10 * index)).save(split / f"{index}.png")
        (split / f"{index}.txt").write_text(f"color number {index}\nanother image\n")
    (tmp_path / "configs").mkdir()
    for stage, tiny in TINY.items():
        model = [field for field in tiny if field.startswith("model.")]
        fields = [*model, "data.threads=0"] + ([] if stage == "clip" else ["sampling.steps=2"])
        text = CONFIG.format(
            path=str(ROOT / "configs/shapes" / f"{stage}.py"),
            fields="; ".join(f"config.{field}" for field in fields),
        )
        (tmp_path / "configs" / f"{stage}.py").write_text(text)
    return tmp_path


@pytest.mark.slow
def test_train_folder_trains_cascade_and_second_run_changes_nothing(folder):
    arguments = ["images", "runs", "--configs", "configs", *(f"--config.{field}" for field in SHORT)]
    first = run(*arguments, cwd=folder)
    assert first.returncode == 0, first.stdout + first.stderr
    cascade = load_cascade(folder / "runs/cascade")
    assert list(cascade.stages) == list(TINY)
    manifest = read_manifest(folder / "runs/embeddings")
    assert manifest["splits"] == {name: {"records": n, "unreadable": 0} for name, n in (("train", 16), ("test", 8))}
    assert manifest["clip"] == parameters.digest(load_clip(folder / "runs/cascade").params)
    assert cascade.stages["diffusion_prior"].spec.encoders["clip"].digest == manifest["clip"]
    sample = np.asarray(Image.open(folder / "runs/sample.png"))
    assert sample.shape == (256, 256, 3) and "Prompt: color number 16" in first.stdout

    weights = {path: path.read_bytes() for path in (folder / "runs/cascade").glob("*/params.safetensors")}
    second = run(*arguments, cwd=folder)
    assert second.returncode == 0, second.stdout + second.stderr
    assert "== embeddings" not in second.stdout and len(weights) == 5
    assert all(path.read_bytes() == content for path, content in weights.items())


@pytest.mark.parametrize(
    "arguments, message",
    [
        ([], "Expected IMAGES and optionally RUNS_DIR, got 0 positional arguments."),
        (["a", "b", "c"], "Expected IMAGES and optionally RUNS_DIR, got 3 positional arguments."),
        (["a", "--clip"], "--clip requires a value."),
        (["a", "--steps=3"], r"Unknown argument --steps=3. Available: --clip, --configs, --config"),
    ],
)
def test_train_folder_prints_one_line_for_invalid_arguments(arguments, message, tmp_path):
    done = run(*arguments, cwd=tmp_path)
    assert done.returncode == 1 and re.fullmatch(rf"train_folder.sh: .*{message}.*\n", done.stderr)
    assert not list(tmp_path.iterdir())
