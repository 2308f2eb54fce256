"""launch/train_folder.sh: a folder of captioned pictures goes in, and a cascade that makes pictures comes out."""

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
    """Twenty-four pictures of one colour each, two of them for the tests, and tiny configs."""
    for number in range(24):
        split = tmp_path / "pictures" / ("test" if number >= 16 else "train")
        split.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (256, 300), (10 * number, 0, 255 - 10 * number)).save(split / f"{number}.png")
        (split / f"{number}.txt").write_text(f"colour number {number}\nanother picture\n")
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
def test_a_folder_becomes_a_cascade_and_a_second_run_finds_all_done(folder):
    arguments = ["pictures", "made", "--configs", "configs", *(f"--config.{field}" for field in SHORT)]
    first = run(*arguments, cwd=folder)
    assert first.returncode == 0, first.stdout + first.stderr
    cascade = load_cascade(folder / "made/cascade")
    assert list(cascade.stages) == list(TINY)
    manifest = read_manifest(folder / "made/embeddings")
    assert manifest["splits"] == {name: {"records": n, "unreadable": 0} for name, n in (("train", 16), ("test", 8))}
    assert manifest["clip"] == parameters.digest(load_clip(folder / "made/cascade").params)
    assert cascade.stages["diffusion_prior"].spec.encoders["clip"].digest == manifest["clip"]
    picture = np.asarray(Image.open(folder / "made/sample.png"))
    assert picture.shape == (256, 256, 3) and "picture of: colour number 16" in first.stdout

    weights = {path: path.read_bytes() for path in (folder / "made/cascade").glob("*/params.safetensors")}
    second = run(*arguments, cwd=folder)
    assert second.returncode == 0, second.stdout + second.stderr
    assert "== embeddings" not in second.stdout and len(weights) == 5
    assert all(path.read_bytes() == content for path, content in weights.items())


@pytest.mark.parametrize(
    "arguments, message",
    [
        ([], "needs PICTURES and perhaps RUNS_DIR, and got 0 of them"),
        (["a", "b", "c"], "needs PICTURES and perhaps RUNS_DIR, and got 3 of them"),
        (["a", "--clip"], "--clip needs a value"),
        (["a", "--steps=3"], r"unknown argument --steps=3. Known: --clip, --configs, --config"),
    ],
)
def test_wrong_arguments_are_refused_in_one_line(arguments, message, tmp_path):
    done = run(*arguments, cwd=tmp_path)
    assert done.returncode == 1 and re.fullmatch(rf"train_folder.sh: .*{message}.*\n", done.stderr)
    assert not list(tmp_path.iterdir())
