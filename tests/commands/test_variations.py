"""`unclip variations`: files with their metadata, and wrong input in one line."""

import json

import numpy as np
import pytest

from unclip_jax import images
from unclip_jax.__main__ import main


@pytest.fixture
def vary(folder, capsys, tmp_path, monkeypatch):
    """Runs the command in a folder with a picture in it; returns (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    images.write_png(tmp_path / "picture.png", rng.integers(0, 256, (20, 30, 3), np.uint8))

    def run(*arguments):
        code = main(["variations", "--cascade", str(folder), *map(str, arguments)])
        return code, *capsys.readouterr()

    return run


def test_a_grid_and_a_folder_hold_the_same_pictures_with_what_they_were_made_of(vary, tmp_path):
    flags = ("picture.png", "--count", 2, "--seed", 5, "--decoder-scale", 2, "--steps", "decoder=3")
    assert vary(*flags) == (0, "variations.png\n", "")
    metadata = images.read_png_metadata(tmp_path / "variations.png")
    assert (metadata["image"], metadata["seed"], metadata["count"]) == ("picture.png", "5", "2")
    settings = json.loads(metadata["settings"])
    assert list(settings) == ["decoder", "upsampler_8_to_16"]
    assert (settings["decoder"]["steps"], settings["decoder"]["scale"]) == (3, 2.0)
    code, out, _ = vary(*flags, "--out", "made")
    paths = out.split()
    assert (code, paths) == (0, ["made/00000-picture-png.png", "made/00001-picture-png.png"])
    alone = np.stack([images.read_image(tmp_path / path) for path in paths])
    np.testing.assert_array_equal(images.grid(alone), images.read_image(tmp_path / "variations.png"))
    assert not np.array_equal(*alone)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["missing.png"], "missing.png"),
        (["picture.png", "--count", "0"], "count is 0; it must be 1 or more"),
        (["picture.png", "--steps", "prior=3,decodr=4"], "steps names decodr, which the cascade has not; known:"),
        (["picture.png", "--out", "a.jpg"], "--out 'a.jpg' ends in '.jpg'"),
        (["picture.png", "--seed", "-1"], "seed is -1; it must be from 0"),
    ],
)
def test_wrong_input_is_one_line_and_writes_nothing(vary, tmp_path, arguments, said):
    code, out, err = vary(*arguments)
    assert (code, out) == (2, "") and said in err and err.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["picture.png"]
