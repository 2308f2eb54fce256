"""Log of a run: bad steps, loss spikes and the progress bar."""

import json
import time

import jax
import numpy as np
import pytest

from tests.training.changes import changed
from tests.training.runs import train
from unclip_jax.training.checkpoint_record import steps_saved
from unclip_jax.training.metric_writer import read_metrics
from unclip_jax.training.run_log import RunLog
from unclip_jax.training.spec import TrainingSpec


def test_run_ends_after_max_bad_steps_in_a_row(tiny, tmp_path, make_task, make_data, capsys):
    tiny["task"] = make_task(breaks=True)
    with pytest.raises(
        FloatingPointError, match="not finite, .* in 3 steps in a row, up to step 11 .*max_bad_steps is 3"
    ):
        train(tiny, tmp_path, train_data=make_data(bad_steps=(2, 3, 6, 8, 9, 10)))
    assert [(line["step"], line["skipped"]) for line in read_metrics(tmp_path)] == [
        (1, 0), (2, 0), (4, 2), (6, 2), (8, 3), (10, 5)
    ]  # fmt: skip
    assert steps_saved(tmp_path)[-1] == 8
    bad = [json.loads(line) for line in (tmp_path / "bad_steps.jsonl").read_text().splitlines()]
    assert [(line["step"], line["skipped"]) for line in bad] == [(step, True) for step in (3, 4, 7, 9, 10, 11)]
    assert bad[0]["grad_norm"] is None and bad[0]["records"] == list(range(100 + 2 * 16, 100 + 3 * 16))
    assert "Skipped step 3: loss 0." in capsys.readouterr().err


def test_step_is_skipped_when_gradient_exceeds_skip_norm(tiny, tmp_path):
    tiny["config"] = changed(tiny["config"], optimizer__skip_norm=1e-9)
    with pytest.raises(FloatingPointError, match="exceeded skip_norm, in 3 steps in a row, up to step 3"):
        train(tiny, tmp_path)


def test_loss_spike_is_logged_and_not_skipped(tiny, tmp_path, make_task, make_data, capsys):
    tiny["config"] = changed(tiny["config"], training__steps=16)
    tiny["task"] = make_task(jumps=True)
    train(tiny, tmp_path, train_data=make_data(bad_steps=(13,)))
    (line,) = (tmp_path / "bad_steps.jsonl").read_text().splitlines()
    line = json.loads(line)
    assert (line["step"], line["skipped"]) == (14, False) and line["loss"] > 10
    assert line["records"] == list(range(100 + 13 * 16, 100 + 14 * 16))
    assert "Loss spike at step 14" in capsys.readouterr().err
    assert read_metrics(tmp_path)[-1]["skipped"] == 0


def test_progress_bar_shows_long_waits_for_data(tiny, tmp_path, make_data, capsys):
    tiny["progress"] = True
    train(tiny, tmp_path / "slow", train_data=make_data(at=lambda step: time.sleep(0.05)))
    assert "of the time waiting for data" in capsys.readouterr().err


def test_only_the_leader_writes(tmp_path, monkeypatch, capsys):
    metrics = {name: np.float32(1.0) for name in ("loss", "grad_norm", "skipped", "skipped_in_a_row")}
    for process, written in ((1, set()), (0, {"bad_steps.jsonl", "metrics.jsonl", "previews"})):
        monkeypatch.setattr(jax, "process_index", lambda process=process: process)
        log = RunLog(tmp_path, TrainingSpec(log_every=1), start=0, progress=True)
        log.add(1, dict(metrics), None)
        log.flush()
        log.write_preview(1, np.zeros((1, 2, 2, 3), np.uint8))
        log.close()
        assert written <= {path.name for path in tmp_path.iterdir()} and bool(written) == any(tmp_path.iterdir())
        assert ("Skipped step 1" in capsys.readouterr().err) == bool(written)
