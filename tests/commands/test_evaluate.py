"""`unclip evaluate`, on a subject that paints nothing of what it is asked for."""

import json
import sys

import numpy as np
import pytest

from unclip_jax.__main__ import main
from unclip_jax.commands import evaluate
from unclip_jax.evaluation import suites
from unclip_jax.evaluation.subject import Subject


@pytest.fixture
def asked(monkeypatch):
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
    monkeypatch.setattr(evaluate, "cascade_subject", lambda cascade: subject)
    monkeypatch.setattr(suites, "READER_SCENES", 10)
    return calls


@pytest.fixture
def unused(monkeypatch):
    """Fails when a cascade is loaded."""
    monkeypatch.setattr(evaluate, "cascade_subject", lambda cascade: pytest.fail("the cascade was loaded"))


def test_every_row_is_printed_and_written(asked, tmp_path, capsys):
    path = tmp_path / "shapes.json"
    assert main(["evaluate", "--cascade", "somewhere", "--prompts", "4", "--seed", "100", "--json", str(path)]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    lines = out.splitlines()
    assert lines[0].startswith("suite shapes, cascade somewhere, seed 100, prompts 4, date 20")
    assert ", jax " in lines[0] and ", unclip_jax " in lines[0] and ", devices " in lines[0]
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
    assert written["stages"].keys() == {"clip_retrieval", "prior_cosine"}
    assert written["settings"]["seed"] == 100
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
        (["--seed", "-1"], "--seed -1 is negative; a seed is a whole number from 0"),
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
