"""Resuming: results equal those of an uninterrupted run, and incompatible settings are rejected."""

import itertools

import numpy as np
import pytest

from tests.training.changes import changed
from tests.training.runs import final, train
from unclip_jax.training.checkpoint_record import steps_saved
from unclip_jax.training.checkpoints import restore_extras, restore_record
from unclip_jax.training.metric_writer import read_metrics


class StopError(Exception):
    pass


def test_resumed_run_matches_uninterrupted_run(tiny, tmp_path, trained, make_data):
    def breaks(step):
        if step == 10:
            raise StopError

    with pytest.raises(StopError):
        train(tiny, tmp_path / "broken", train_data=make_data(at=breaks))
    assert steps_saved(tmp_path / "broken")[-1] == 8
    steps = [line["step"] for line in read_metrics(tmp_path / "broken")]
    requested = []
    assert train(tiny, tmp_path / "broken", train_data=make_data(at=requested.append)) == 12
    assert min(requested) == 8
    assert final(tmp_path / "broken") == final(trained)

    lines, expected = read_metrics(tmp_path / "broken"), read_metrics(trained)
    assert [line["step"] for line in lines] == [1, 2, 4, 6, 8, 10, 12] and 10 not in steps[:-1]
    for name in ("step", "loss", "grad_norm", "learning_rate", "eval_loss", "output"):
        assert [line.get(name) for line in lines] == [line.get(name) for line in expected], name
    seconds = [line["seconds"] for line in lines]
    assert seconds == sorted(seconds)


def test_finished_run_does_nothing_unless_steps_increase(tiny, tmp_path, trained_copy):
    before = (trained_copy / "metrics.jsonl").read_text()
    assert train(tiny, trained_copy) == 12
    assert (trained_copy / "metrics.jsonl").read_text() == before
    tiny["config"] = changed(tiny["config"], training__steps=14)
    assert train(tiny, trained_copy) == 14
    assert [line["step"] for line in read_metrics(trained_copy)][-2:] == [12, 14]


def test_changed_config_is_rejected_before_anything_is_written(tiny, tmp_path, trained_copy):
    before = {path: path.stat().st_mtime_ns for path in trained_copy.rglob("*")}
    tiny["config"] = changed(tiny["config"], optimizer__learning_rate=1e-5)
    with pytest.raises(ValueError, match="another config: optimizer.learning_rate is 1e-05 and was 0.003"):
        train(tiny, trained_copy)
    (trained_copy / "config.json").rename(tmp_path / "config.json")  # the checkpoint contains the config as well
    with pytest.raises(ValueError, match="another config: optimizer.learning_rate is 1e-05 and was 0.003"):
        train(tiny, trained_copy)
    (tmp_path / "config.json").rename(trained_copy / "config.json")
    after = {path: path.stat().st_mtime_ns for path in trained_copy.rglob("*")}
    assert {path: time for path, time in after.items() if path.is_file()} == {
        path: time for path, time in before.items() if path.is_file()
    }


def test_different_frozen_parameters_are_rejected(tiny, trained_copy):
    tiny["frozen"]["scale"]["x"] = np.asarray(0.5, np.float32)
    with pytest.raises(ValueError, match="with different frozen parameters: scale has digest [0-9a-f]{64} and had"):
        train(tiny, trained_copy)
    with pytest.raises(ValueError, match="scale has digest None and had"):
        train(tiny, trained_copy, frozen={})


def test_resumed_run_keeps_extras_and_provenance_of_first_run(tiny, tmp_path, make_data):
    tiny["config"] = changed(tiny["config"], optimizer__schedule="constant")
    first, second = ({"scale": {"x": np.asarray(x, np.float32)}} for x in (0.7, 0.1))
    train(tiny, tmp_path / "once", frozen=first, extras=first)
    tiny["config"] = changed(tiny["config"], training__steps=6)
    train(tiny, tmp_path / "halves", frozen=first, extras=first, provenance={"run": 1})
    np.testing.assert_array_equal(restore_extras(tmp_path / "halves")["scale"]["x"], np.float32(0.7))
    tiny["config"] = changed(tiny["config"], training__steps=12)
    train(tiny, tmp_path / "halves", frozen=second, extras=second, provenance={"run": 2})
    assert final(tmp_path / "halves") == final(tmp_path / "once")
    assert restore_record(tmp_path / "halves")[1].provenance == {"run": 1}


def test_workdir_with_damaged_config_is_rejected(tiny, tmp_path):
    (tmp_path / "config.json").write_text('{"training": ')
    with pytest.raises(ValueError, match="config.json' cannot be read as JSON"):
        train(tiny, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]


def damage(file):
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def rename(file):
    """Changes one letter of a parameter name, so that the record remains valid JSON."""
    text = file.read_text()
    assert "params/hidden/bias" in text
    file.write_text(text.replace("params/hidden/bias", "params/hidden/biar", 1))


def truncate(file):
    file.write_bytes(file.read_bytes()[:100])


def empty(file):
    file.write_bytes(b"")


@pytest.mark.parametrize(
    "what, change", [*itertools.product(("arrays", "record"), (damage, truncate, empty)), ("record", rename)]
)
def test_damaged_latest_checkpoint_is_skipped_with_message(
    tiny, trained_copy, trained, make_data, capsys, what, change
):
    latest = trained_copy / "checkpoints" / "12"
    if what == "record":
        file = latest / "_CHECKPOINT_METADATA"
    else:
        file = max((latest / "state").rglob("*"), key=lambda path: path.stat().st_size)
    change(file)
    requested = []
    assert train(tiny, trained_copy, train_data=make_data(at=requested.append)) == 12
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1 and "checkpoints/12' is damaged" in lines[0]
    assert lines[0].endswith("The previous checkpoint is of step 8. Resuming from there.")
    assert 8 in requested
    assert final(trained_copy) == final(trained)  # the damaged checkpoint was replaced
    assert [line["step"] for line in read_metrics(trained_copy)] == [line["step"] for line in read_metrics(trained)]


def test_run_is_rejected_when_all_checkpoints_are_damaged(tiny, trained_copy):
    for step in ("8", "12"):
        empty(max((trained_copy / "checkpoints" / step / "state").rglob("*"), key=lambda path: path.stat().st_size))
    with pytest.raises(ValueError, match="checkpoints/8' is damaged .*There is no earlier checkpoint"):
        train(tiny, trained_copy)
