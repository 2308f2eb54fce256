"""The walk of a caption: the files that `unclip train` enters for a decoder, in order. `pytest -s` prints them."""

import pytest
from PIL import Image

from tests.cascades.tiny import write_tiny_cascade
from tests.commands.test_package import CONFIGS, SHORT, TINY
from tests.walk import floor_of, walk


@pytest.fixture(scope="module")
def files(tmp_path_factory, one_device):
    """Training reads a folder of images, in this process (0 data workers)."""
    tmp_path = tmp_path_factory.mktemp("walk")
    folder = write_tiny_cascade(tmp_path / "cascade")
    for split in ("train", "test"):
        (tmp_path / "images" / split).mkdir(parents=True)
        for number in range(8):
            image = tmp_path / "images" / split / f"{number}.png"
            Image.new("RGB", (16, 16), (30 * number, 0, 0)).save(image)
            image.with_suffix(".txt").write_text("a red")
    fields = [
        *SHORT, *TINY["decoder"], f"encoders.clip={folder}", "data.source=folder", f"data.dir={tmp_path / 'images'}",
        "data.image_field=image", "data.image_size=16", "data.clip_size=16", "data.workers=0", "sampling.steps=2",
    ]  # fmt: skip
    overrides = [f"--config.{field}" for field in fields]
    return walk(["train", f"--config={CONFIGS / 'decoder.py'}", f"--workdir={tmp_path / 'run'}", *overrides])


def test_a(files):
    pass
