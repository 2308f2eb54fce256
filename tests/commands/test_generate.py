"""`unclip generate`: files with their metadata, and wrong input in one line, before anything is sampled."""

import json

import numpy as np
import pytest

import unclip_jax
from unclip_jax import images
from unclip_jax.__main__ import main


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def generate(folder, capsys):
    """Runs the command; returns (exit code, stdout, stderr)."""

    def run(*arguments):
        code = main(["generate", "--cascade", str(folder), *map(str, arguments)])
        return code, *capsys.readouterr()

    return run


def test_one_picture_with_prompt_seed_and_settings(generate, tmp_path):
    code, out, err = generate("a red circle", "--seed", 5, "--steps", "prior=3,decoder=4", "--decoder-scale", 2)
    assert (code, out, err) == (0, "a-red-circle.png\n", "")
    assert images.read_image(tmp_path / "a-red-circle.png").shape == (16, 16, 3)
    metadata = images.read_png_metadata(tmp_path / "a-red-circle.png")
    assert (metadata["prompt"], metadata["seed"]) == ("a red circle", "5")
    settings = json.loads(metadata["settings"])
    decoder = settings["decoder"]
    assert (decoder["sampler"], decoder["steps"], decoder["guidance_scale"], decoder["eta"]) == ("ddpm", 4, 2.0, 0.0)
    assert settings["diffusion_prior"]["steps"] == 3 and settings["upsampler_8_to_16"]["steps"] == 3


def test_paths_and_every_other_setting_by_name(generate, tmp_path):
    flags = ["--steps", "prior=2,decoder=2,1,upsampler_8_to_16=ddim2", "--sampler", "prior=dpm"]
    flags += ["--sampling", "decoder.guidance_interval=100,900", "--sampling", "decoder.variance=fixed_large"]
    code, out, err = generate("a red circle", *flags)
    assert (code, err) == (0, "")
    settings = json.loads(images.read_png_metadata(tmp_path / "a-red-circle.png")["settings"])
    assert {name: stage["steps"] for name, stage in settings.items()} == {
        "diffusion_prior": 2, "decoder": "2,1", "upsampler_8_to_16": "ddim2"
    }  # fmt: skip
    assert settings["diffusion_prior"]["sampler"] == "dpm"
    assert settings["decoder"]["guidance_interval"] == [100, 900]
    assert settings["decoder"]["variance"] == "fixed_large"


def test_folder_holds_the_pictures_of_the_grid_each_with_its_own_number(generate, tmp_path):
    code, out, _ = generate("a red circle", "a green ring", "--count", 2, "--out", "made")
    names = [
        "made/00000-a-red-circle.png", "made/00001-a-red-circle.png",
        "made/00002-a-green-ring.png", "made/00003-a-green-ring.png",
    ]  # fmt: skip
    assert code == 0 and out.split() == names
    generate("a red circle", "a green ring", "--count", 2, "--out", "grid.png")
    grid = images.read_image("grid.png")
    pictures = [images.read_image(name) for name in names]
    np.testing.assert_array_equal(grid[:16, :16], pictures[0])
    np.testing.assert_array_equal(grid[-16:, -16:], pictures[3])
    assert np.any(pictures[0] != pictures[1])
    # The number in the metadata makes the picture again, alone.
    number = images.read_png_metadata(names[3])["first_image"]
    generate("a green ring", "--first-image", number, "--out", "again.png")
    assert np.max(np.abs(images.read_image("again.png").astype(int) - pictures[3])) <= 1


def test_each_stage_is_freed_after_its_turn(generate, monkeypatch):
    load, opened = unclip_jax.load_cascade, []

    def keep(*args, **options):
        opened.append(load(*args, **options))
        return opened[0]

    monkeypatch.setattr(unclip_jax, "load_cascade", keep)
    assert generate("a ring")[0] == 0
    assert all(leaf.is_deleted() for stage in opened[0].stages.values() for leaf in stage.device_arrays())


def test_unknown_words_give_one_line_on_stderr(generate):
    code, _, err = generate("a red zebra")
    assert code == 0
    assert err == (
        "unclip generate: warning: no caption that this cascade was trained on has the words: zebra. "
        "It draws one or two shapes.\n"
    )


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["a ring", "--out", "p.jpg"], "--out 'p.jpg' ends in '.jpg'; give a .png, or a folder's name"),
        (["a ring", "--out", "none/p.png"], "--out 'none/p.png' is to lie in 'none', which is missing"),
        (["a ring", "--out", "file/p.png"], "--out 'file/p.png' is to lie in 'file', which is a file"),
        (["a ring", "--out", "file/folder"], "--out 'file/folder' cannot be written (Not a directory)"),
        (["a ring", "--out", "folder.png"], "--out 'folder.png' is a folder"),
        (["a ring", "--steps", "decoder"], "--steps 'decoder': 'decoder' is no pair STAGE=VALUE, such as decoder=50"),
        (["a ring", "--steps", "decoder=x"], "steps of decoder: steps is 'x': it must be a number, sections as in"),
        (["a ring", "--steps", "decoder=3,,4"], "--steps 'decoder=3,,4': '' is no pair STAGE=VALUE"),
        (["a ring", "--sampling", "decoder=1"], "--sampling 'decoder=1' is not STAGE.FIELD=VALUE, such as"),
        (["a ring", "--sampling", "decoder.eta=x"], "eta of decoder is 'x'; it must be a number"),
        (["a ring", "--steps", "decoder=0"], "steps of decoder is 0; it must be from 1 to 1000"),
        (["a ring", "--steps", "upsampler=5"], "steps names upsampler, which the cascade has not; known:"),
        (["a ring", "--sampler", "decoder=euler"], "sampler of decoder is 'euler'; known: ddpm, ddim"),
        (["a ring", "--count", "0"], "count is 0; it must be 1 or more"),
        ([""], "a prompt is empty"),
    ],
)
def test_wrong_input_is_one_line_and_writes_nothing(generate, tmp_path, arguments, message):
    (tmp_path / "file").write_text("")
    (tmp_path / "folder.png").mkdir()
    code, out, err = generate(*arguments)
    assert code == 2 and out == ""
    assert err.startswith(f"unclip generate: {message}") and err.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder.png"]


def test_unknown_cascade_is_one_line(capsys):
    assert main(["generate", "a ring", "--cascade", "nowhere"]) == 2
    assert "cascade 'nowhere' is no folder with a cascade.json and not bundled" in capsys.readouterr().err


@pytest.mark.parametrize("content", [b"mine", b"", images.encode_png(np.zeros((4, 4, 3), np.uint8))])
def test_existing_file_that_was_not_generated_is_not_overwritten(generate, tmp_path, content):
    (tmp_path / "a-ring.png").write_bytes(content)
    code, out, err = generate("a ring")
    assert (code, out) == (2, "") and err.count("\n") == 1
    assert err.startswith("unclip generate: --out 'a-ring.png' exists already and was not generated by unclip.")
    assert (tmp_path / "a-ring.png").read_bytes() == content


def test_generated_file_is_overwritten(generate, tmp_path):
    (tmp_path / "a-ring.png").write_bytes(
        images.encode_png(np.zeros((4, 4, 3), np.uint8), {"software": "unclip_jax 0.1"})
    )
    assert generate("a ring")[0] == 0
    assert images.read_image(tmp_path / "a-ring.png").shape == (16, 16, 3)
