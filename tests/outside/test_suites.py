"""Suites of other packages on the command line."""

import dataclasses
import json
import sys

import numpy as np
import pytest

import unclip_jax
from tests.distributions import write_distribution
from tests.outside import brightness_suite
from tests.outside.helpers import only_line
from unclip_jax.__main__ import main
from unclip_jax.commands import evaluate
from unclip_jax.evaluation.model_under_test import ModelUnderTest
from unclip_jax.evaluation.suites import SUITES

pytestmark = [
    pytest.mark.usefixtures("one_device", "tables"),
    pytest.mark.filterwarnings("ignore:a caption of .* is cut:UserWarning"),  # the tokenizer is tiny
]


@pytest.fixture(autouse=True)
def no_compilation_cache(monkeypatch):
    """Disables the compilation cache, which would persist after the test."""
    monkeypatch.setattr(evaluate.compilation_cache, "enable", lambda: None)


def generate_images(prompts, *, seed, first_image):
    levels = [{"a red circle": 10, "a green ring": 200}[prompt] + seed + first_image for prompt in prompts]
    return np.stack([np.full((16, 16, 3), level + index, np.uint8) for index, level in enumerate(levels)])


def test_registered_suite_prints_tables_and_writes_json(folder, tmp_path, monkeypatch, capsys):
    def encode_text(prompts):
        return np.array([[3.0, 4.0], [9.0, 12.0]])  # lengths 5 and 15

    model = ModelUnderTest(generate_images, None, encode_text, None, None)
    monkeypatch.setattr(evaluate, "cascade_functions", lambda cascade: model)
    SUITES.register("brightness", brightness_suite.SUITE)
    path = tmp_path / "out.json"
    call = ["evaluate", "--suite", "brightness", "--cascade", str(folder), "--prompts", "3", "--seed", "4"]
    assert main([*call, "--json", str(path)]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0].startswith(f"- run: suite brightness, cascade {folder}, seed 4, prompts 3, ")
    assert out[out.index("") : -2] == [
        "",
        "| metric               | value |",
        "|----------------------|-------|",
        "| text_length          | length 10.000 |",
        "",
        "| image     |   level |",
        "|-----------|---------|",
        "| darkest   |   14.00 |",
        "| brightest |  205.00 |",
    ]
    written = json.loads(path.read_text())
    assert written.pop("settings")["suite"] == "brightness"
    assert written == {"text": {"text_length": 10.0}, "brightness": {"darkest": 14.0, "brightest": 205.0}}


def test_suite_with_other_image_size_is_rejected_before_running(folder, tmp_path, capsys):
    def run(run):
        pytest.fail("a measure ran")

    measures = [dataclasses.replace(measure, run=run) for measure in brightness_suite.SUITE.measures]
    suite = dataclasses.replace(brightness_suite.SUITE, measures=tuple(measures), image_size=64)
    SUITES.register("brightness", suite)
    path = tmp_path / "out.json"
    assert main(["evaluate", "--suite", "brightness", "--cascade", str(folder), "--json", str(path)]) == 2
    assert only_line(capsys) == (
        "unclip evaluate: --cascade must generate images of 64 px for suite 'brightness', but the last stage of "
        f"{str(folder)!r}, 'upsampler_8_to_16', generates 16 px.\n"
    )
    assert not path.exists()


# ---- entry points


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Installs a distribution whose modules can be imported during the test."""
    site = tmp_path / "site"
    monkeypatch.syspath_prepend(site)

    def install(*entry_points: str) -> None:
        write_distribution(
            site, "outside-brightness", {"unclip_jax.suites": entry_points}, copied=[brightness_suite.__file__],
            broken_suite="raise RuntimeError('too\\ndark')\n",
        )  # fmt: skip

    yield install
    sys.modules.pop("brightness_suite", None)


def test_entry_point_suite_runs_on_the_command_line(folder, tmp_path, install, capsys):
    call = ["evaluate", "--suite", "brightness", "--rows", "text_length", "--cascade", str(folder)]
    install("anything = brightness_suite:SUITE")
    path = tmp_path / "out.json"
    assert main([*call, "--json", str(path)]) == 0
    assert SUITES.choose("brightness").measures[0].run.__module__ == "brightness_suite"
    clip = unclip_jax.load_cascade(folder, stages=["clip"]).stages["clip"]
    embeddings = unclip_jax.encode_text(clip, list(brightness_suite.PROMPTS))
    length = float(np.mean(np.linalg.norm(embeddings, axis=1)))
    assert f"| text_length          | length {length:.3f} |" in capsys.readouterr().out.splitlines()
    assert json.loads(path.read_text())["text"] == {"text_length": pytest.approx(length, rel=1e-6)}


def test_list_option_shows_entry_point_suites(install, capsys):
    install("anything = brightness_suite:SUITE")
    assert main(["evaluate", "--list"]) == 0
    assert capsys.readouterr().out.endswith(
        "\n\nrows of suite brightness:\n  text_length  length of text embeddings\n  brightness   mean gray levels\n"
    )


def test_unknown_suite_message_names_failed_entry_points(install, capsys):
    install("broken = broken_suite:SUITE", "anything = brightness_suite:SUITE")
    assert main(["evaluate", "--suite", "photos"]) == 2
    assert only_line(capsys) == (
        "unclip evaluate: Unknown suite 'photos' in --suite. Available: shapes, brightness. "
        "Entry point 'broken' of outside-brightness failed to load: RuntimeError: too dark.\n"
    )


def test_list_reports_entry_points_that_fail(install, capsys):
    install("broken = broken_suite:SUITE")
    assert main(["evaluate", "--list"]) == 0
    assert only_line(capsys) == ("Entry point 'broken' of outside-brightness failed to load: RuntimeError: too dark.\n")
