"""`unclip generate`: output files with metadata, and one-line errors before sampling."""

import json

import numpy as np
import pytest

import unclip_jax
from unclip_jax import images
from unclip_jax.__main__ import main


@pytest.fixture(autouse=True)
def in_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def generate(folder, capsys):
    """Runs the command and returns (exit code, stdout, stderr)."""

    def run(*arguments):
        code = main(["generate", "--cascade", str(folder), *map(str, arguments)])
        return code, *capsys.readouterr()

    return run


def test_png_stores_prompt_seed_and_settings(generate, tmp_path):
    code, out, err = generate("a red circle", "--seed", 5, "--steps", "prior=3,decoder=4", "--decoder-scale", 2)
    assert (code, out, err) == (0, "a-red-circle.png\n", "")
    assert images.read_image(tmp_path / "a-red-circle.png").shape == (16, 16, 3)
    metadata = images.read_png_metadata(tmp_path / "a-red-circle.png")
    assert (metadata["prompt"], metadata["seed"]) == ("a red circle", "5")
    settings = json.loads(metadata["settings"])
    decoder = settings["decoder"]
    assert (decoder["sampler"], decoder["steps"], decoder["guidance_scale"], decoder["eta"]) == ("ddpm", 4, 2.0, 0.0)
    assert settings["diffusion_prior"]["steps"] == 3 and settings["upsampler_8_to_16"]["steps"] == 3


def test_timestep_paths_and_other_settings_can_be_set_per_stage(generate, tmp_path):
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


def test_folder_contains_the_images_of_the_grid_with_their_indices(generate, tmp_path):
    code, out, _ = generate("a red circle", "a green ring", "--count", 2, "--out", "out")
    names = [
        "out/00000-a-red-circle.png", "out/00001-a-red-circle.png",
        "out/00002-a-green-ring.png", "out/00003-a-green-ring.png",
    ]  # fmt: skip
    assert code == 0 and out.split() == names
    generate("a red circle", "a green ring", "--count", 2, "--out", "grid.png")
    grid = images.read_image("grid.png")
    separate = [images.read_image(name) for name in names]
    np.testing.assert_array_equal(grid[:16, :16], separate[0])
    np.testing.assert_array_equal(grid[-16:, -16:], separate[3])
    assert np.any(separate[0] != separate[1])
    # The index in the metadata reproduces a single image.
    index = images.read_png_metadata(names[3])["first_image"]
    generate("a green ring", "--first-image", index, "--out", "again.png")
    assert np.max(np.abs(images.read_image("again.png").astype(int) - separate[3])) <= 1


def test_generate_deletes_parameters_of_all_stages(generate, monkeypatch):
    load, opened = unclip_jax.load_cascade, []

    def keep(*args, **options):
        opened.append(load(*args, **options))
        return opened[0]

    monkeypatch.setattr(unclip_jax, "load_cascade", keep)
    assert generate("a ring")[0] == 0
    assert all(leaf.is_deleted() for stage in opened[0].stages.values() for leaf in stage.device_arrays())


def test_unknown_words_print_one_line_warning(generate):
    code, _, err = generate("a red zebra")
    assert code == 0
    assert err == (
        "unclip generate: warning: no training caption of the cascade contains the words: zebra. "
        "The cascade generates one or two shapes.\n"
    )


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["a ring", "--out", "p.jpg"], "--out must end in .png or be a folder without a suffix, got 'p.jpg'."),
        (["a ring", "--out", "none/p.png"], "--out 'none/p.png' cannot be written: 'none' does not exist."),
        (["a ring", "--out", "file/p.png"], "--out 'file/p.png' cannot be written: 'file' is not a folder."),
        (["a ring", "--out", "file/folder"], "--out 'file/folder' cannot be written: Not a directory."),
        (["a ring", "--out", "folder.png"], "--out 'folder.png' is a folder."),
        (
            ["a ring", "--steps", "decoder"],
            "--steps must consist of STAGE=VALUE pairs, such as decoder=50, got 'decoder' in",
        ),
        (["a ring", "--steps", "decoder=x"], "steps of decoder: Unknown path 'x'"),
        (
            ["a ring", "--steps", "decoder=3,,4"],
            "--steps must consist of STAGE=VALUE pairs, such as decoder=50, got '' in",
        ),
        (["a ring", "--sampling", "decoder=1"], "--sampling must be STAGE.FIELD=VALUE, such as"),
        (["a ring", "--sampling", "decoder.eta=x"], "eta of decoder must be a number, got 'x'"),
        (["a ring", "--steps", "decoder=0"], "steps of decoder must be between 1 and 1000, got 0"),
        (["a ring", "--steps", "upsampler=5"], "steps must name stages of the cascade, got upsampler. Available:"),
        (["a ring", "--sampler", "decoder=euler"], "sampler of decoder must be one of ddpm, ddim"),
        (["a ring", "--count", "0"], "count must be at least 1, got 0"),
        ([""], "prompts must be a non-empty list of non-empty strings"),
    ],
)
def test_invalid_input_prints_one_line_and_writes_nothing(generate, tmp_path, arguments, message):
    (tmp_path / "file").write_text("")
    (tmp_path / "folder.png").mkdir()
    code, out, err = generate(*arguments)
    assert code == 2 and out == ""
    assert err.startswith(f"unclip generate: {message}") and err.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder.png"]


def test_unknown_cascade_prints_one_line(capsys):
    assert main(["generate", "a ring", "--cascade", "nowhere"]) == 2
    assert "cascade must be a bundled cascade or a cascade folder, got 'nowhere'" in capsys.readouterr().err


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
