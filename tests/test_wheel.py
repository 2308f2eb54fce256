"""The wheel: its contents, and its use in a new environment outside the checkout."""

import email
import email.message
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import zipfile

import pytest

from tests.commands.test_package import CONFIGS, SHORT, TINY
from unclip_jax import __version__, images
from unclip_jax.data.captioned_shapes.reading import read

ROOT = pathlib.Path(__file__).parents[1]
OFTEN = ["training.checkpoint_every=5", "training.preview_every=0", "optimizer.warmup_steps=2"]
PROMPT = "a red circle on a blue background"


def run(*command, **settings):
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False, **settings)
    assert done.returncode == 0, f"{command}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return done


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Builds the wheel from a copy, because files of an old build folder would be included."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    shutil.copytree(ROOT / "unclip_jax", folder / "unclip_jax", ignore=shutil.ignore_patterns("__pycache__"))
    run(sys.executable, "-m", "build", "--wheel", "--outdir", folder / "dist", folder, cwd=folder)
    (built,) = (folder / "dist").glob("*.whl")
    return built


def test_wheel_contains_exactly_the_package(wheel):
    assert wheel.name == f"unclip_jax-{__version__}-py3-none-any.whl"
    with zipfile.ZipFile(wheel) as archive:
        files = {name for name in archive.namelist() if not name.endswith("/") and ".dist-info/" not in name}
    bundled = ROOT / "unclip_jax" / "cascades" / "bundled"
    package = [*(ROOT / "unclip_jax").rglob("*.py"), *(path for path in bundled.rglob("*") if path.is_file())]
    package.append(ROOT / "unclip_jax/py.typed")
    expected = {path.relative_to(ROOT).as_posix() for path in package if "__pycache__" not in path.parts}
    assert files == expected


def test_base_install_requires_neither_torch_nor_tensorflow(wheel):
    metadata = metadata_of(wheel)
    base = base_requirements(metadata)
    assert not [line for line in base if line.startswith(("torch", "tensorflow")) and "datasets" not in line]
    assert {"tpu", "cuda", "test", "parity"} <= set(metadata.get_all("Provides-Extra"))
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["Requires-Python"] == ">=3.11"


@pytest.mark.slow
@pytest.mark.parametrize("versions", ["newest", "lowest"])
def test_wheel_generates_and_trains_in_a_new_environment(wheel, tmp_path, versions):
    environment, outside = tmp_path / "environment", tmp_path / "outside"
    outside.mkdir()
    run(sys.executable, "-m", "venv", environment)
    constraints = tmp_path / "constraints.txt"
    constraints.write_text("\n".join(lowest(wheel)) if versions == "lowest" else "")
    run(environment / "bin" / "python", "-m", "pip", "install", "--disable-pip-version-check", "-c", constraints, wheel)
    installed = run(environment / "bin" / "python", "-m", "pip", "list", "--format=freeze").stdout.lower().split()
    assert not {line.partition("==")[0] for line in installed} & {"torch", "tensorflow", "diffusers", "pytest"}

    variables = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
    command = (environment / "bin" / "unclip", "generate", PROMPT, "--out", "image.png")
    done = run(*command, cwd=outside, env=variables)
    assert "Traceback" not in done.stderr and "Deprecat" not in done.stderr, done.stderr

    image = images.read_image(outside / "image.png")
    assert image.shape == (256, 256, 3)
    scene = read(image)
    assert scene is not None and scene.background == "blue"
    assert [(item.colour, item.shape) for item in scene.objects] == [("red", "circle")]
    metadata = images.read_png_metadata(outside / "image.png")
    assert metadata["prompt"] == PROMPT and metadata["seed"] == "0"

    stages = {}
    for name, fields in TINY.items():
        # Keep the width of the bundled CLIP, which is their encoder.
        fields = [field for field in fields if not field.startswith(("model.embed_dim", "model.text_width"))]
        stages[name] = [str(CONFIGS / f"{name}.py"), *SHORT, *fields, *OFTEN]
    (tmp_path / "stages.json").write_text(json.dumps(stages))
    shutil.copy(ROOT / "tests" / "train_every_stage.py", outside)
    run(
        environment / "bin" / "python",
        "train_every_stage.py",
        tmp_path / "stages.json",
        "runs",
        cwd=outside,
        env=variables,
    )


def metadata_of(wheel) -> email.message.Message:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return email.message_from_bytes(archive.read(name))


def base_requirements(metadata) -> list[str]:
    """Returns the requirements without extras."""
    return [line for line in metadata.get_all("Requires-Dist") if "extra ==" not in line]


def lowest(wheel) -> list[str]:
    """Returns constraints for the lowest declared version of each direct dependency."""
    base = [re.fullmatch(r"([\w-]+)(?:\[\w+\])?>=([\d.]+)", line) for line in base_requirements(metadata_of(wheel))]
    assert all(base)
    return [f"{match[1]}=={match[2]}" for match in base]
