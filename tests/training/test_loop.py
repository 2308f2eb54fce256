"""The loop: it learns, stops and goes on as if it had not, and refuses what would spoil a run."""

import itertools
import json
import os
import shutil
import signal
import time

import jax
import numpy as np
import pytest

from tests.training.changes import changed
from unclip_jax import images
from unclip_jax.sharding.mesh import make_mesh
from unclip_jax.training import checkpointing, loop
from unclip_jax.training.metric_writer import read_metrics


def final(workdir):
    """Step, and type, shape and checksum of every array of the newest checkpoint."""
    step = checkpointing.steps_saved(workdir)[-1]
    return step, checkpointing.read_record(checkpointing.directory(workdir), step)["arrays"]


def train(tiny, workdir, **changes):
    return loop.train(**{**tiny, **changes}, workdir=workdir)


@pytest.fixture
def whole(trained, tmp_path):
    """A workdir that was trained in one go, to be changed."""
    return shutil.copytree(trained, tmp_path / "whole")


def test_training_brings_the_loss_down_and_writes_what_it_should(tiny, tmp_path):
    every = {"training__log_every": 20, "training__eval_every": 30, "training__preview_every": 30}
    tiny["config"] = changed(tiny["config"], training__steps=60, **every)
    train(tiny, tmp_path)
    lines = read_metrics(tmp_path)
    assert [line["step"] for line in lines] == [1, 20, 30, 40, 60]
    assert lines[-1]["loss_mean"] < 0.5 * lines[0]["loss"]
    assert lines[-1]["eval_loss"] < lines[2]["eval_loss"] < lines[0]["loss"]
    assert [line["step"] for line in lines if "eval_loss" in line] == [30, 60]
    assert all(line["images_per_second"] > 0 and 0 <= line["data_wait"] <= 1 for line in lines[1:])
    assert json.loads((tmp_path / "config.json").read_text())["training"]["steps"] == 60
    assert [path.name for path in sorted((tmp_path / "previews").iterdir())] == [
        "step_00000030.png", "step_00000060.png"
    ]  # fmt: skip
    picture = images.read_image(tmp_path / "previews" / "step_00000060.png")
    np.testing.assert_array_equal(picture[:4, :4], next(tiny["eval_data"].batches(0))["image"][0])
    assert checkpointing.restore_params(tmp_path).step == 60


class Stop(Exception):
    pass


def test_a_run_that_broke_goes_on_as_if_it_had_never_stopped(tiny, tmp_path, trained, make_data):
    def breaks(step):
        if step == 10:
            raise Stop

    with pytest.raises(Stop):
        train(tiny, tmp_path / "broken", train_data=make_data(at=breaks))
    assert checkpointing.steps_saved(tmp_path / "broken")[-1] == 8
    steps = [line["step"] for line in read_metrics(tmp_path / "broken")]
    asked = []
    assert train(tiny, tmp_path / "broken", train_data=make_data(at=asked.append)) == 12
    assert asked[0] == 8
    assert final(tmp_path / "broken") == final(trained)

    lines, expected = read_metrics(tmp_path / "broken"), read_metrics(trained)
    assert [line["step"] for line in lines] == [1, 2, 4, 6, 8, 10, 12] and 10 not in steps[:-1]
    for name in ("step", "loss", "grad_norm", "learning_rate", "eval_loss", "answer"):
        assert [line.get(name) for line in lines] == [line.get(name) for line in expected], name
    seconds = [line["seconds"] for line in lines]
    assert seconds == sorted(seconds)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_run_that_is_asked_to_stop_saves_and_goes_on(tiny, tmp_path, trained, make_data, capsys, number):
    def stops(step):
        if step == 5:
            os.kill(os.getpid(), number)

    before = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt, match="stopped at step 6"):
        train(tiny, tmp_path / "stopped", train_data=make_data(at=stops))
    assert signal.getsignal(number) is before
    assert "stopped at step 6 of 12, which is saved: run it again to go on" in capsys.readouterr().err
    assert checkpointing.steps_saved(tmp_path / "stopped")[-1] == 6
    train(tiny, tmp_path / "stopped")
    assert final(tmp_path / "stopped") == final(trained)


def test_a_finished_run_does_nothing_and_more_steps_train_on(tiny, tmp_path, whole):
    before = (whole / "metrics.jsonl").read_text()
    assert train(tiny, whole) == 12
    assert (whole / "metrics.jsonl").read_text() == before
    tiny["config"] = changed(tiny["config"], training__steps=14)
    assert train(tiny, whole) == 14
    assert [line["step"] for line in read_metrics(whole)][-2:] == [12, 14]


@pytest.mark.parametrize("changes", ["data", "seed"])
def test_another_seed_or_other_data_end_elsewhere(tiny, tmp_path, trained, make_data, changes):
    if changes == "data":
        tiny["train_data"] = make_data(seed=3)
    tiny["config"] = changed(tiny["config"], training__seed=1 if changes == "seed" else 0)
    train(tiny, tmp_path)
    assert final(tmp_path)[1]["state"]["params/out/kernel"] != final(trained)[1]["state"]["params/out/kernel"]


def test_bad_steps_are_counted_and_too_many_in_a_row_end_the_run(tiny, tmp_path, make_task, make_data, capsys):
    tiny["task"] = make_task(breaks=True)
    with pytest.raises(FloatingPointError, match="not finite, .* in 3 steps in a row, up to step 11 .*max_bad_steps 3"):
        train(tiny, tmp_path, train_data=make_data(bad_steps=(2, 3, 6, 8, 9, 10)))
    assert [(line["step"], line["skipped"]) for line in read_metrics(tmp_path)] == [
        (1, 0), (2, 0), (4, 2), (6, 2), (8, 3), (10, 5)
    ]  # fmt: skip
    assert checkpointing.steps_saved(tmp_path)[-1] == 8
    bad = [json.loads(line) for line in (tmp_path / "bad_steps.jsonl").read_text().splitlines()]
    assert [(line["step"], line["skipped"]) for line in bad] == [(step, True) for step in (3, 4, 7, 9, 10, 11)]
    assert bad[0]["grad_norm"] is None and bad[0]["records"] == list(range(100 + 2 * 16, 100 + 3 * 16))
    assert "step 3 was skipped: loss 0." in capsys.readouterr().err


def test_gradients_that_are_too_long_are_skipped(tiny, tmp_path):
    tiny["config"] = changed(tiny["config"], optimizer__skip_norm=1e-9)
    with pytest.raises(FloatingPointError, match="longer than skip_norm, in 3 steps in a row, up to step 3"):
        train(tiny, tmp_path)


def test_a_jump_of_the_loss_is_written_down_and_trained_on(tiny, tmp_path, make_task, make_data, capsys):
    tiny["config"] = changed(tiny["config"], training__steps=16)
    tiny["task"] = make_task(jumps=True)
    train(tiny, tmp_path, train_data=make_data(bad_steps=(13,)))
    (line,) = (tmp_path / "bad_steps.jsonl").read_text().splitlines()
    line = json.loads(line)
    assert (line["step"], line["skipped"]) == (14, False) and line["loss"] > 10
    assert line["records"] == list(range(100 + 13 * 16, 100 + 14 * 16))
    assert "step 14 has a loss that jumped" in capsys.readouterr().err
    assert read_metrics(tmp_path)[-1]["skipped"] == 0


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
    with pytest.raises(ValueError, match="beside other frozen parameters: scale has digest [0-9a-f]{64} and had"):
        train(tiny, whole)
    with pytest.raises(ValueError, match="scale has digest None and had"):
        train(tiny, whole, frozen={})


def test_extras_are_kept_and_take_the_place_of_frozen_ones_on_resuming(tiny, tmp_path, make_data):
    tiny["config"] = changed(tiny["config"], optimizer__schedule="constant")
    mine, other = ({"scale": {"x": np.asarray(x, np.float32)}} for x in (0.7, 0.1))
    train(tiny, tmp_path / "once", frozen=mine, extras=mine)
    tiny["config"] = changed(tiny["config"], training__steps=6)
    train(tiny, tmp_path / "halves", frozen=mine, extras=mine)
    np.testing.assert_array_equal(checkpointing.restore_extras(tmp_path / "halves")["scale"]["x"], np.float32(0.7))
    tiny["config"] = changed(tiny["config"], training__steps=12)
    train(tiny, tmp_path / "halves", frozen=other, extras=other)
    assert final(tmp_path / "halves") == final(tmp_path / "once")


def test_training_can_begin_with_given_parameters(tiny, tmp_path, trained):
    start = checkpointing.restore_params(trained).params
    tiny["config"] = changed(tiny["config"], training__steps=1)
    tiny["config"] = changed(tiny["config"], optimizer__learning_rate=0.0)
    train(tiny, tmp_path, initial_params=start)
    found = checkpointing.restore_params(tmp_path).params
    np.testing.assert_allclose(found["out"]["kernel"], start["out"]["kernel"], rtol=1e-6)


def test_a_stage_without_pictures_has_no_previews(tiny, tmp_path, make_task):
    train(tiny, tmp_path, task=make_task(pictures=False))
    assert not (tmp_path / "previews").exists()
    assert "eval_loss" in read_metrics(tmp_path)[-1]


def test_without_validation_data_there_is_no_validation(tiny, tmp_path):
    train(tiny, tmp_path, eval_data=None)
    assert len(read_metrics(tmp_path)) == 7 and not any("eval_loss" in line for line in read_metrics(tmp_path))


def test_a_batch_that_does_not_divide_and_a_workdir_that_is_a_file_are_refused(tiny, tmp_path):
    with pytest.raises(ValueError, match="global_batch 16 does not divide among 3 devices .*use a multiple of 3"):
        loop.check_config(tiny["config"], make_mesh(devices=jax.devices()[:3]))
    with pytest.raises(ValueError, match="is 2 devices, and there are 8"):
        tiny["config"] = changed(tiny["config"], mesh__data=2)
        loop.check_config(tiny["config"])
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="file' is a file; a folder is wanted"):
        loop.check_workdir(tiny["config"], tmp_path / "file")
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]


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
    assert said[0].endswith("The one before it is of step 8. Going on from there.")
    assert 8 in asked
    assert final(whole) == final(trained)  # the damaged one was written anew
    assert [line["step"] for line in read_metrics(whole)] == [line["step"] for line in read_metrics(trained)]


def test_with_all_checkpoints_damaged_nothing_is_begun_anew(tiny, whole):
    for step in ("8", "12"):
        empty(max((whole / "checkpoints" / step / "state").rglob("*"), key=lambda path: path.stat().st_size))
    with pytest.raises(ValueError, match="checkpoints/8' is damaged .*There is none before it"):
        train(tiny, whole)


def test_waiting_for_data_is_said_where_it_is_long(tiny, tmp_path, make_data, capsys):
    tiny["progress"] = True
    train(tiny, tmp_path / "slow", train_data=make_data(at=lambda step: time.sleep(0.05)))
    assert "of the time waiting for data" in capsys.readouterr().err
