"""Resuming: a run continues as if it had not stopped, and refuses what would spoil it."""

import itertools

import numpy as np
import pytest

from tests.training.changes import changed
from tests.training.runs import final, train
from unclip_jax.training.checkpoint_record import steps_saved
from unclip_jax.training.checkpoints import restore_extras, restore_record
from unclip_jax.training.metric_writer import read_metrics


class Stop(Exception):
    pass


def test_a_run_that_broke_goes_on_as_if_it_had_never_stopped(tiny, tmp_path, trained, make_data):
    def breaks(step):
        if step == 10:
            raise Stop

    with pytest.raises(Stop):
        train(tiny, tmp_path / "broken", train_data=make_data(at=breaks))
    assert steps_saved(tmp_path / "broken")[-1] == 8
    steps = [line["step"] for line in read_metrics(tmp_path / "broken")]
    asked = []
    assert train(tiny, tmp_path / "broken", train_data=make_data(at=asked.append)) == 12
    assert min(asked) == 8
    assert final(tmp_path / "broken") == final(trained)

    lines, expected = read_metrics(tmp_path / "broken"), read_metrics(trained)
    assert [line["step"] for line in lines] == [1, 2, 4, 6, 8, 10, 12] and 10 not in steps[:-1]
    for name in ("step", "loss", "grad_norm", "learning_rate", "eval_loss", "answer"):
        assert [line.get(name) for line in lines] == [line.get(name) for line in expected], name
    seconds = [line["seconds"] for line in lines]
    assert seconds == sorted(seconds)


def test_a_finished_run_does_nothing_and_more_steps_train_on(tiny, tmp_path, whole):
    before = (whole / "metrics.jsonl").read_text()
    assert train(tiny, whole) == 12
    assert (whole / "metrics.jsonl").read_text() == before
    tiny["config"] = changed(tiny["config"], training__steps=14)
    assert train(tiny, whole) == 14
    assert [line["step"] for line in read_metrics(whole)][-2:] == [12, 14]


def test_another_config_is_refused_before_anything_is_written(tiny, tmp_path, whole):
    before = {path: path.stat().st_mtime_ns for path in whole.rglob("*")}
    tiny["config"] = changed(tiny["config"], optimizer__learning_rate=1e-5)
    with pytest.raises(ValueError, match="another config: optimizer.learning_rate is 1e-05 and was 0.003"):
        train(tiny, whole)
    (whole / "config.json").rename(tmp_path / "config.json")  # the checkpoint knows it too
    with pytest.raises(ValueError, match="another config: optimizer.learning_rate is 1e-05 and was 0.003"):
        train(tiny, whole)
    (tmp_path / "config.json").rename(whole / "config.json")
    after = {path: path.stat().st_mtime_ns for path in whole.rglob("*")}
    assert {path: time for path, time in after.items() if path.is_file()} == {
        path: time for path, time in before.items() if path.is_file()
    }


def test_other_frozen_parameters_are_refused_by_name(tiny, whole):
    tiny["frozen"]["scale"]["x"] = np.asarray(0.5, np.float32)
    with pytest.raises(ValueError, match="with different frozen parameters: scale has digest [0-9a-f]{64} and had"):
        train(tiny, whole)
    with pytest.raises(ValueError, match="scale has digest None and had"):
        train(tiny, whole, frozen={})


def test_extras_and_provenance_are_those_of_the_first_run_on_resuming(tiny, tmp_path, make_data):
    tiny["config"] = changed(tiny["config"], optimizer__schedule="constant")
    mine, other = ({"scale": {"x": np.asarray(x, np.float32)}} for x in (0.7, 0.1))
    train(tiny, tmp_path / "once", frozen=mine, extras=mine)
    tiny["config"] = changed(tiny["config"], training__steps=6)
    train(tiny, tmp_path / "halves", frozen=mine, extras=mine, provenance={"run": 1})
    np.testing.assert_array_equal(restore_extras(tmp_path / "halves")["scale"]["x"], np.float32(0.7))
    tiny["config"] = changed(tiny["config"], training__steps=12)
    train(tiny, tmp_path / "halves", frozen=other, extras=other, provenance={"run": 2})
    assert final(tmp_path / "halves") == final(tmp_path / "once")
    assert restore_record(tmp_path / "halves")[1].provenance == {"run": 1}


def test_workdir_with_damaged_config_is_refused(tiny, tmp_path):
    (tmp_path / "config.json").write_text('{"training": ')
    with pytest.raises(ValueError, match="config.json' cannot be read as JSON"):
        train(tiny, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]


def damage(file):
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def rename(file):
    """One letter of a parameter's name, in a record that is JSON all the same."""
    text = file.read_text()
    assert "params/hidden/bias" in text
    file.write_text(text.replace("params/hidden/bias", "params/hidden/biar", 1))


def truncate(file):
    file.write_bytes(file.read_bytes()[:100])


def empty(file):
    file.write_bytes(b"")


@pytest.mark.parametrize(
    "what, spoil", [*itertools.product(("arrays", "record"), (damage, truncate, empty)), ("record", rename)]
)
def test_a_damaged_newest_checkpoint_is_passed_over_with_a_line(tiny, whole, trained, make_data, capsys, what, spoil):
    newest = whole / "checkpoints" / "12"
    if what == "record":
        file = newest / "_CHECKPOINT_METADATA"
    else:
        file = max((newest / "state").rglob("*"), key=lambda path: path.stat().st_size)
    spoil(file)
    asked = []
    assert train(tiny, whole, train_data=make_data(at=asked.append)) == 12
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1 and "checkpoints/12' is damaged" in said[0]
    assert said[0].endswith("The previous checkpoint is of step 8. Resuming from there.")
    assert 8 in asked
    assert final(whole) == final(trained)  # the damaged one was written anew
    assert [line["step"] for line in read_metrics(whole)] == [line["step"] for line in read_metrics(trained)]


def test_with_all_checkpoints_damaged_nothing_is_begun_anew(tiny, whole):
    for step in ("8", "12"):
        empty(max((whole / "checkpoints" / step / "state").rglob("*"), key=lambda path: path.stat().st_size))
    with pytest.raises(ValueError, match="checkpoints/8' is damaged .*There is no earlier checkpoint"):
        train(tiny, whole)
