"""`unclip evaluate`, with a model that generates white images and with a cascade of tiny networks."""

import dataclasses
import json

import numpy as np
import pytest

import unclip_jax
from tests.cascades import tiny
from unclip_jax.__main__ import main
from unclip_jax.cascades.embedding import encode_image
from unclip_jax.cascades.loading import load_cascade
from unclip_jax.cascades.text_to_image import sample_prior, text_to_image
from unclip_jax.commands import evaluate
from unclip_jax.evaluation import report
from unclip_jax.evaluation.model_under_test import ModelUnderTest
from unclip_jax.evaluation.suite import run_measures
from unclip_jax.evaluation.suites import SUITES
from unclip_jax.evaluation.suites.shapes import SUITE, accuracy_measures


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
    """Replaces the cascade by a model of white images, and records its calls."""
    calls = []

    def generate_images(prompts, *, seed, first_image, image_embeddings=None, empty_caption=False):
        calls.append((len(prompts), seed))
        return np.full((len(prompts), 256, 256, 3), 255, np.uint8)

    def embed(items):
        return np.ones((len(items), 4))

    def upsample(low_res, *, size, seed, first_image):
        return np.full((len(low_res), size, size, 3), 128, np.uint8)

    model = ModelUnderTest(generate_images, embed, embed, lambda prompts, **settings: embed(prompts), upsample)
    monkeypatch.setattr(unclip_jax, "load_cascade", lambda source, **options: cascade, raising=False)
    monkeypatch.setattr(evaluate, "cascade_functions", lambda cascade: model)
    monkeypatch.setattr(accuracy_measures, "READER_SCENES", 10)
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
    rows = [measure.name for measure in SUITE.measures]
    assert [name for name in printed if name in rows] == rows
    assert sum(line.startswith("|--") for line in lines) == 2  # one head per table

    written = json.loads(path.read_text())
    for measure in accuracy_measures.MEASURES:
        assert written[measure.name].keys() >= {"accuracy", "n", "attributes", "interval"}
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


def replace_two_objects(monkeypatch, run):
    """Replaces the function of the measure two_objects."""
    measures = [
        dataclasses.replace(measure, run=run) if measure.name == "two_objects" else measure
        for measure in SUITE.measures
    ]
    monkeypatch.setitem(SUITES._entries, "shapes", dataclasses.replace(SUITE, measures=tuple(measures)))


def test_a_row_is_printed_before_the_next_is_made(asked, monkeypatch, capsys):
    printed = []
    replace_two_objects(monkeypatch, lambda run: printed.append(capsys.readouterr().out) or {})
    monkeypatch.setattr(report, "table_lines", lambda measure, *rest: [measure.name])
    assert main(["evaluate", "--prompts", "2", "--rows", "one_object,two_objects"]) == 0
    assert "one_object" in printed[0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--suite", "photos"], "Unknown suite 'photos' in --suite. Available: shapes."),
        (["--rows", "one_object,two"], "Unknown measure 'two' in --rows. Available: one_object, two_objects"),
        (["--rows", ""], "--rows must contain a measure. Available: one_object"),
        (["--seed", "-1"], "--seed must be from 0 to 4294967295, got -1."),
        (["--prompts", "1"], "--prompts must be at least 2, got 1."),
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
        assert f"--json must be a file in an existing, writable folder, got {str(path)!r}" in err
        assert err.count("\n") == 1
    assert main(["evaluate", "--json", str(tmp_path)]) == 2
    assert f"--json must be a file, got the folder {str(tmp_path)!r}" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_an_old_result_stays_until_the_new_one_is_whole(asked, tmp_path, monkeypatch):
    path = tmp_path / "shapes.json"
    path.write_text("old")
    replace_two_objects(monkeypatch, lambda run: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        main(["evaluate", "--prompts", "2", "--rows", "one_object,two_objects", "--json", str(path)])
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_cascades_functions_are_those_of_the_library(cascade):
    model = evaluate.cascade_functions(cascade)
    pictures = np.random.default_rng(0).integers(0, 256, (2, 256, 256, 3), np.uint8)
    prompts = ["a red circle", "a green ring"]
    z = model.encode_image(pictures)
    np.testing.assert_array_equal(z, encode_image(cascade.stages["clip"], pictures))
    assert model.encode_text(prompts).shape == z.shape
    made = model.sample_prior(prompts, seed=3, first_image=1)
    np.testing.assert_array_equal(made, sample_prior(cascade, prompts, seed=3, first_image=1))
    settings = {"seed": 3, "first_image": 1, "image_embeddings": z, "empty_caption": True}
    np.testing.assert_array_equal(
        model.generate_images(prompts, **settings), text_to_image(cascade, prompts, **settings)
    )
    low_res = np.random.default_rng(1).uniform(-1, 1, (2, 64, 64, 3)).astype(np.float32)
    assert model.upsample(low_res, size=256, seed=0, first_image=0).shape == (2, 256, 256, 3)


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


def test_a_cascade_of_another_image_size_is_rejected_if_a_measure_generates_images(folder):
    """Its last image stage is the decoder, of 8 px."""
    cascade = load_cascade(folder, stages=["clip", "diffusion_prior", "decoder"])
    message = (
        f"generate images of 256 px for suite 'shapes', but the last stage of {str(folder)!r}, 'decoder', generates 8"
    )
    for name in ("one_object", "flatness"):
        with pytest.raises(ValueError, match=message):
            evaluate.check_image_size(cascade, SUITE, SUITE.select([name, "reader"]))
    evaluate.check_image_size(cascade, SUITE, SUITE.select(["clip_retrieval", "upsampler_16_to_64", "reader"]))
    for size in (None, 8):
        evaluate.check_image_size(cascade, dataclasses.replace(SUITE, image_size=size), SUITE.measures)


def test_image_size_is_checked_before_anything_is_generated(asked, monkeypatch, cascade, tmp_path, capsys):
    monkeypatch.setitem(SUITES._entries, "shapes", dataclasses.replace(SUITE, image_size=64))
    path = tmp_path / "out.json"
    assert main(["evaluate", "--prompts", "2", "--rows", "reader,shuffled", "--json", str(path)]) == 2
    out, err = capsys.readouterr()
    assert out == "" and asked == [] and not path.exists()
    assert err.startswith("unclip evaluate: --cascade must generate images of 64 px for suite 'shapes', ")
    assert err.count("\n") == 1


@pytest.mark.filterwarnings("ignore:a caption of")  # the tiny CLIP's context is short
def test_the_rows_of_clip_need_no_other_stage(folder):
    cascade = load_cascade(folder, stages=["clip"])
    evaluate.check_image_size(cascade, SUITE, SUITE.measures)
    model = evaluate.cascade_functions(cascade)
    [(_, found)] = run_measures(SUITE.select(["clip_retrieval"]), model, num_prompts=2)
    assert found["n"] == 2
    with pytest.raises(ValueError, match="has no prior. Available stages: clip"):
        list(run_measures(SUITE.select(["prior_cosine"]), model, num_prompts=2))


def test_list_shows_every_row_of_every_suite_with_its_description(unused, monkeypatch, capsys):
    other = dataclasses.replace(SUITE, name="other", measures=SUITE.measures[:1], image_size=None)
    monkeypatch.setitem(SUITES._entries, "other", other)
    assert main(["evaluate", "--list"]) == 0
    first, second = capsys.readouterr().out.split("\n\n")
    words = " ".join(first.split())
    assert words.startswith("rows of suite shapes, for images of 256 px: one_object ")
    for measure in SUITE.measures:
        assert f" {measure.name} {measure.describe}" in words
    assert second.startswith("rows of suite other:\n  one_object  one object, ")
