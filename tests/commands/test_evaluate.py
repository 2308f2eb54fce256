"""`unclip evaluate`: on a subject that paints nothing of what it is asked for, and on a cascade of tiny networks."""

import json
import sys

import numpy as np
import pytest

import unclip_jax
from tests.cascades import tiny
from unclip_jax.__main__ import main
from unclip_jax.cascades.embedding import encode_image
from unclip_jax.cascades.loading import load_cascade
from unclip_jax.cascades.text_to_image import sample_prior, text_to_image
from unclip_jax.commands import evaluate
from unclip_jax.evaluation import suites
from unclip_jax.evaluation.subject import Subject


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The tiny cascade with upsamplers to the sizes that the suite reads."""
    small = tiny.CONFIGS["upsampler_8_to_16"]

    def upsampler(low_res_size, size):
        model = {**small["model"], "image_size": size, "channels": 8, "channel_mult": [1]}
        sampling = {**small["sampling"], "steps": 2}
        return {**small, "model": model, "sampling": sampling, "low_res_size": low_res_size}

    configs = {name: config for name, config in tiny.CONFIGS.items() if config["kind"] != "upsampler"}
    configs |= {"upsampler_16_to_64": upsampler(8, 64), "upsampler_64_to_256": upsampler(64, 256)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiny, "CONFIGS", configs)
        return tiny.write_tiny_cascade(tmp_path_factory.mktemp("evaluate") / "cascade")


@pytest.fixture(scope="module")
def cascade(folder):
    return load_cascade(folder)


@pytest.fixture(autouse=True)
def no_compilation_cache(monkeypatch):
    """The command's own cache would outlive the test."""
    monkeypatch.setattr(evaluate.compilation_cache, "enable", lambda: None)


@pytest.fixture
def asked(monkeypatch, cascade):
    """Puts a subject of white pictures in the cascade's place, and notes what is asked of it."""
    calls = []

    def make_pictures(prompts, *, seed, first_image, image_embeddings=None, empty_caption=False):
        calls.append((len(prompts), seed))
        return np.full((len(prompts), 256, 256, 3), 255, np.uint8)

    def embed(items):
        return np.ones((len(items), 4))

    def upsample(low_res, *, size, seed, first_image):
        return np.full((len(low_res), size, size, 3), 128, np.uint8)

    subject = Subject(make_pictures, embed, embed, lambda prompts, **settings: embed(prompts), upsample)
    monkeypatch.setattr(unclip_jax, "load_cascade", lambda source, **options: cascade, raising=False)
    monkeypatch.setattr(evaluate, "cascade_subject", lambda cascade: subject)
    monkeypatch.setattr(suites, "READER_SCENES", 10)
    return calls


@pytest.fixture
def unused(monkeypatch):
    """Fails when a cascade is loaded."""

    def fail(source, **options):
        pytest.fail("it was loaded")

    monkeypatch.setattr(unclip_jax, "load_cascade", fail, raising=False)


def test_every_row_is_printed_and_written(asked, tmp_path, capsys):
    path = tmp_path / "shapes.json"
    assert main(["evaluate", "--cascade", "somewhere", "--prompts", "4", "--seed", "100", "--json", str(path)]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    lines = out.splitlines()
    assert lines[0].startswith("- run: suite shapes, cascade somewhere, seed 100, prompts 4, date 20")
    assert ", jax " in lines[0] and ", unclip_jax " in lines[0] and ", devices " in lines[0]
    assert lines[1] == "- diffusion_prior: sampler ddpm, steps 5, guidance_scale 2.0, candidates 2"
    assert [line.split(":")[0] for line in lines[2:5]] == ["- decoder", "- upsampler_16_to_64", "- upsampler_64_to_256"]
    printed = [line.split("|")[1].strip() for line in lines if line.startswith("| ")]
    assert [name for name in printed if name in suites.SHAPES_ROWS] == list(suites.SHAPES_ROWS)

    written = json.loads(path.read_text())
    for row in suites.ACCURACY_ROWS:
        assert written[row].keys() >= {"accuracy", "n", "attributes", "interval"}
    assert written["one_object"]["accuracy"] == 0.0
    assert written["one_object"]["n"] == 4
    assert written["reader"] | {"interval": None} == {
        "accuracy": 1.0,
        "n": 10,
        "interval": None,
        "attributes": written["reader"]["attributes"],
    }
    assert written["diversity"] is None  # nothing was readable
    assert {"psnr_gain", "flat", "flat_bicubic", "flat_true"} <= written["upsampler_64_to_256"].keys()
    assert written["stages"].keys() == {"clip_retrieval", "clip_attributes", "prior_cosine"}
    assert written["settings"]["seed"] == 100
    assert written["settings"]["sampling"]["decoder"]["steps"] == 6
    assert {seed for _, seed in asked} == {100}
    assert list(tmp_path.iterdir()) == [path]


def test_only_the_chosen_rows_run(asked, tmp_path, capsys):
    path = tmp_path / "few.json"
    assert main(["evaluate", "--prompts", "3", "--rows", "two_objects, one_object", "--json", str(path)]) == 0
    assert [count for count, _ in asked] == [3, 3]
    assert json.loads(path.read_text()).keys() == {"settings", "one_object", "two_objects"}


def test_a_row_is_printed_before_the_next_is_made(asked, monkeypatch, capsys):
    printed = []
    monkeypatch.setattr(suites._Shapes, "two_objects", lambda suite: printed.append(capsys.readouterr().out) or {})
    monkeypatch.setattr(sys.modules["unclip_jax.evaluation.report"], "table_lines", lambda row, *rest: [row])
    assert main(["evaluate", "--prompts", "2", "--rows", "one_object,two_objects"]) == 0
    assert "one_object" in printed[0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--suite", "photos"], "--suite 'photos' is unknown; known: shapes"),
        (["--rows", "one_object,two"], "rows unknown: 'two'; known: one_object, two_objects"),
        (["--rows", ""], "rows unknown: ''; known: one_object"),
        (["--seed", "-1"], "--seed -1 is no seed; a whole number from 0 to 4294967295 is wanted"),
        (["--prompts", "1"], "--prompts 1 is too few; a row needs at least 2"),
    ],
)
def test_wrong_arguments_are_one_line_before_anything_is_loaded(unused, capsys, arguments, message):
    assert main(["evaluate", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err
    assert err.count("\n") == 1


def test_a_json_file_that_cannot_be_written_is_found_before_anything_is_loaded(unused, tmp_path, capsys):
    (tmp_path / "file").write_text("a parent that is a file stops root too")
    for path in (tmp_path / "file" / "out.json", tmp_path / "no" / "out.json"):
        assert main(["evaluate", "--json", str(path)]) == 2
        err = capsys.readouterr().err
        assert f"--json {str(path)!r} cannot be written" in err
        assert err.count("\n") == 1
    assert main(["evaluate", "--json", str(tmp_path)]) == 2
    assert f"--json {str(tmp_path)!r} is a folder" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_an_old_result_stays_until_the_new_one_is_whole(asked, tmp_path, monkeypatch):
    path = tmp_path / "shapes.json"
    path.write_text("old")
    monkeypatch.setattr(suites._Shapes, "two_objects", lambda suite: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        main(["evaluate", "--prompts", "2", "--rows", "one_object,two_objects", "--json", str(path)])
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_cascades_functions_are_those_of_the_library(cascade):
    subject = evaluate.cascade_subject(cascade)
    pictures = np.random.default_rng(0).integers(0, 256, (2, 256, 256, 3), np.uint8)
    prompts = ["a red circle", "a green ring"]
    z = subject.encode_image(pictures)
    np.testing.assert_array_equal(z, encode_image(cascade.stages["clip"], pictures))
    assert subject.encode_text(prompts).shape == z.shape
    made = subject.sample_prior(prompts, seed=3, first_image=1)
    np.testing.assert_array_equal(made, sample_prior(cascade, prompts, seed=3, first_image=1))
    settings = {"seed": 3, "first_image": 1, "image_embeddings": z, "empty_caption": True}
    np.testing.assert_array_equal(
        subject.make_pictures(prompts, **settings), text_to_image(cascade, prompts, **settings)
    )
    low_res = np.random.default_rng(1).uniform(-1, 1, (2, 64, 64, 3)).astype(np.float32)
    assert subject.upsample(low_res, size=256, seed=0, first_image=0).shape == (2, 256, 256, 3)


def test_a_whole_cascade_is_measured_from_the_command_line(folder, tmp_path, capsys):
    path = tmp_path / "shapes.json"
    rows = "embedding_only,free_wording,upsampler_16_to_64,clip_retrieval,prior_cosine"
    call = ["evaluate", "--cascade", str(folder), "--prompts", "2", "--rows", rows, "--json", str(path)]
    assert main(call) == 0
    out, err = capsys.readouterr()
    # Of its few words and its short context; nothing else.
    assert all(line.startswith("unclip evaluate: warning: ") for line in err.splitlines())
    written = json.loads(path.read_text())
    assert written["embedding_only"]["accuracy"] == 0.0  # random networks
    assert written["upsampler_16_to_64"]["psnr_gain"] < 0.0
    assert -1.0 <= written["stages"]["prior_cosine"]["cosine"] <= 1.0


def test_a_cascade_of_another_size_is_told_so(folder, capsys):
    cascade = load_cascade(folder, stages=["clip", "diffusion_prior", "decoder"])
    subject = evaluate.cascade_subject(cascade)
    with pytest.raises(ValueError, match="makes pictures of 8 px with its last stage, decoder; .* reads 256 px"):
        subject.make_pictures(["a red circle"], seed=0, first_image=0)


@pytest.mark.filterwarnings("ignore:a caption of")  # the tiny CLIP's context is short
def test_the_rows_of_clip_need_no_other_stage(folder):
    cascade = load_cascade(folder, stages=["clip"])
    found = dict(suites.shapes(evaluate.cascade_subject(cascade), prompts=2, rows=["clip_retrieval"]))
    assert found["clip_retrieval"]["n"] == 2
    with pytest.raises(ValueError, match="has no prior; it has: clip"):
        dict(suites.shapes(evaluate.cascade_subject(cascade), prompts=2, rows=["prior_cosine"]))
