"""Training loop: learning, evaluation, previews, saving and stopping."""

import json
import os
import signal

import jax
import numpy as np
import pytest

from tests.training.changes import changed
from tests.training.runs import final, train
from unclip_jax import images
from unclip_jax.sharding.mesh import make_mesh
from unclip_jax.training import loop
from unclip_jax.training.checkpoint_record import steps_saved
from unclip_jax.training.checkpoints import restore_params
from unclip_jax.training.metric_writer import read_metrics
from unclip_jax.training.resume import check_workdir


def test_train_reduces_loss_and_writes_metrics_config_and_previews(tiny, tmp_path):
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
    preview = images.read_image(tmp_path / "previews" / "step_00000060.png")
    np.testing.assert_array_equal(preview[:4, :4], next(tiny["eval_data"].batches(0))["image"][0])
    assert restore_params(tmp_path).step == 60


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_saves_checkpoint_and_run_can_resume(tiny, tmp_path, trained, make_data, capsys, number):
    def stops(step):
        if step == 5:
            os.kill(os.getpid(), number)

    before = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt, match="Stopped at step 6"):
        train(tiny, tmp_path / "stopped", train_data=make_data(at=stops))
    assert signal.getsignal(number) is before
    assert "Stopped at step 6 of 12 after saving a checkpoint. Run again to resume." in capsys.readouterr().err
    assert steps_saved(tmp_path / "stopped")[-1] == 6
    train(tiny, tmp_path / "stopped")
    assert final(tmp_path / "stopped") == final(trained)


def test_stop_during_an_evaluation_takes_effect_right_after_it(tiny, tmp_path, make_data):
    tiny["config"] = changed(tiny["config"], training__eval_every=4)
    evaluations = make_data(at=lambda step: step or os.kill(os.getpid(), signal.SIGINT))
    with pytest.raises(KeyboardInterrupt, match="Stopped at step 4"):
        train(tiny, tmp_path, eval_data=evaluations)
    assert steps_saved(tmp_path) == [4] and "eval_loss" in read_metrics(tmp_path)[-1]


@pytest.mark.parametrize("changes", ["data", "seed"])
def test_result_depends_on_seed_and_data(tiny, tmp_path, trained, make_data, changes):
    if changes == "data":
        tiny["train_data"] = make_data(seed=3)
    tiny["config"] = changed(tiny["config"], training__seed=1 if changes == "seed" else 0)
    train(tiny, tmp_path)
    assert final(tmp_path)[1]["state"]["params/out/kernel"] != final(trained)[1]["state"]["params/out/kernel"]


def test_initial_params_are_used(tiny, tmp_path, trained):
    start = restore_params(trained).params
    tiny["config"] = changed(tiny["config"], training__steps=1)
    tiny["config"] = changed(tiny["config"], optimizer__learning_rate=0.0)
    train(tiny, tmp_path, initial_params=start)
    params = restore_params(tmp_path).params
    np.testing.assert_allclose(params["out"]["kernel"], start["out"]["kernel"], rtol=1e-6)


def test_task_without_previews_writes_none(tiny, tmp_path, make_task):
    train(tiny, tmp_path, task=make_task(previews=False))
    assert not (tmp_path / "previews").exists()
    assert "eval_loss" in read_metrics(tmp_path)[-1]


def test_evaluation_is_disabled_without_eval_data(tiny, tmp_path):
    train(tiny, tmp_path, eval_data=None)
    assert len(read_metrics(tmp_path)) == 7 and not any("eval_loss" in line for line in read_metrics(tmp_path))


def test_indivisible_batch_and_file_as_workdir_are_rejected(tiny, tmp_path):
    with pytest.raises(ValueError, match="global_batch must be a positive multiple of 3 .*, got 16"):
        loop.check_config(tiny["config"], make_mesh(devices=jax.devices()[:3]))
    with pytest.raises(ValueError, match="mesh sizes must multiply to 8, .* which is 2"):
        tiny["config"] = changed(tiny["config"], mesh__data=2)
        loop.check_config(tiny["config"])
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="must be a folder, got the file '.*file'"):
        check_workdir(tiny["config"], tmp_path / "file")
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]
