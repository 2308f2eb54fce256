"""Lock of a workdir: only one run at a time can train in it."""

import os
import pathlib
import signal
import subprocess
import sys
import threading

import jax
import pytest

from tests.training.changes import changed
from unclip_jax import experiment
from unclip_jax.__main__ import main
from unclip_jax.experiment import train
from unclip_jax.folder_lock import FolderInUse
from unclip_jax.training import loop
from unclip_jax.training.workdir_lock import lock_workdir

ROOT = pathlib.Path(__file__).parents[2]
HOLDER = """
import sys, time
from unclip_jax.folder_lock import lock_folder
with lock_folder(sys.argv[1]):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def holder(tmp_path):
    """A process that holds the lock of a workdir."""
    command = [sys.executable, "-c", HOLDER, str(tmp_path / "run")]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def in_thread(call):
    """Calls a function in another thread and returns its result or exception."""
    results = []

    def run():
        try:
            results.append(call())
        except BaseException as error:
            results.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return results[0]


def test_second_run_is_rejected_while_first_run_trains(tiny, make_tiny, make_data, tmp_path):
    workdir, errors = tmp_path / "run", []

    def start_second_run(step):
        if step == 5:
            errors.append(in_thread(lambda: loop.train(**make_tiny(), workdir=workdir)))

    tiny["train_data"] = make_data(at=start_second_run)
    assert loop.train(**tiny, workdir=workdir) == 12
    (error,) = errors
    assert isinstance(error, FolderInUse) and isinstance(error, ValueError)
    assert str(error) == (
        f"workdir {str(workdir)!r} is in use by another run (process {os.getpid()}). Wait until it has finished, stop "
        "it, or choose another folder."
    )
    assert not (workdir / ".lock").exists()
    tiny["config"] = changed(tiny["config"], training__steps=14)
    assert loop.train(**tiny, workdir=workdir) == 14


def test_new_and_resumed_run_release_lock_when_they_fail(tiny, make_tiny, make_data, tmp_path):
    class StopError(Exception):
        pass

    errors = []

    def fail(step):
        if step == 6:
            errors.append(in_thread(lambda: loop.train(**make_tiny(), workdir=tmp_path)))
            raise StopError

    for _ in range(2):  # a new run, and one that resumes from step 4
        with pytest.raises(StopError):
            loop.train(**{**tiny, "train_data": make_data(at=fail)}, workdir=tmp_path)
    assert [type(error) for error in errors] == [FolderInUse] * 2
    assert loop.train(**tiny, workdir=tmp_path) == 12


def test_lock_of_killed_process_is_released(holder, tiny, make_data, tmp_path):
    requested = []
    tiny["train_data"] = make_data(at=requested.append)
    with pytest.raises(FolderInUse, match=rf"run' is in use by another run \(process {holder.pid}\)"):
        loop.train(**tiny, workdir=tmp_path / "run")
    assert requested == [] and [path.name for path in (tmp_path / "run").iterdir()] == [".lock"]
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert (tmp_path / "run" / ".lock").exists()
    assert loop.train(**tiny, workdir=tmp_path / "run") == 12


def test_train_command_is_rejected_before_anything_is_written(holder, tmp_path, capsys, monkeypatch):
    for name in ("assemble", "_start"):
        monkeypatch.setattr(train, name, lambda *_: pytest.fail("called without the lock"))
    config = ROOT / "configs/shapes/clip.py"
    assert main(["train", f"--config={config}", f"--workdir={tmp_path / 'run'}"]) == 2
    err = capsys.readouterr().err
    assert err.startswith("unclip train: workdir ") and f"(process {holder.pid})" in err and err.count("\n") == 1
    assert [path.name for path in (tmp_path / "run").iterdir()] == [".lock"]


def test_tokenizer_is_written_under_the_lock(tmp_path, monkeypatch):
    """`experiment.train_stage` acquires the lock before `loop.train` does."""
    errors = []

    def assemble(config, workdir):
        errors.append(in_thread(lambda: lock_workdir(workdir).__enter__()))
        raise ZeroDivisionError

    monkeypatch.setattr(train, "assemble", assemble)
    config = experiment.load_config(ROOT / "configs/shapes/clip.py")
    with pytest.raises(ZeroDivisionError):
        experiment.train_stage(config, tmp_path / "run")
    assert isinstance(errors[0], FolderInUse) and not (tmp_path / "run").exists()


def test_only_leader_process_locks(tmp_path, monkeypatch):
    with lock_workdir(tmp_path):
        monkeypatch.setattr(jax, "process_index", lambda: 1)
        assert in_thread(lambda: lock_workdir(tmp_path).__enter__()) is None
