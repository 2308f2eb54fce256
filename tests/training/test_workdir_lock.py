"""One run at a time trains in a workdir."""

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
    """Another process that holds the lock of a workdir."""
    command = [sys.executable, "-c", HOLDER, str(tmp_path / "run")]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def in_thread(call):
    """What a call in another thread returns or raises."""
    found = []

    def run():
        try:
            found.append(call())
        except BaseException as error:
            found.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return found[0]


def test_train_is_refused_while_another_run_trains_and_goes_on_later(tiny, make_tiny, make_data, tmp_path):
    workdir, refused = tmp_path / "run", []

    def second(step):
        if step == 5:
            refused.append(in_thread(lambda: loop.train(**make_tiny(), workdir=workdir)))

    tiny["train_data"] = make_data(at=second)
    assert loop.train(**tiny, workdir=workdir) == 12
    (error,) = refused
    assert isinstance(error, FolderInUse) and isinstance(error, ValueError)
    assert str(error) == (
        f"workdir {str(workdir)!r} is in use by another run (process {os.getpid()}). Wait until it has finished, stop "
        "it, or choose another folder."
    )
    assert not (workdir / ".lock").exists()
    tiny["config"] = changed(tiny["config"], training__steps=14)
    assert loop.train(**tiny, workdir=workdir) == 14


def test_resumed_run_and_failed_run_hold_and_release_the_lock(tiny, make_tiny, make_data, tmp_path):
    class Stop(Exception):
        pass

    refused = []

    def fails(step):
        if step == 6:
            refused.append(in_thread(lambda: loop.train(**make_tiny(), workdir=tmp_path)))
            raise Stop

    for _ in range(2):  # a new run, and one that resumes from step 4
        with pytest.raises(Stop):
            loop.train(**{**tiny, "train_data": make_data(at=fails)}, workdir=tmp_path)
    assert [type(error) for error in refused] == [FolderInUse] * 2
    assert loop.train(**tiny, workdir=tmp_path) == 12


def test_lock_of_a_killed_process_does_not_stay(holder, tiny, make_data, tmp_path):
    drawn = []
    tiny["train_data"] = make_data(at=drawn.append)
    with pytest.raises(FolderInUse, match=rf"run' is in use by another run \(process {holder.pid}\)"):
        loop.train(**tiny, workdir=tmp_path / "run")
    assert drawn == [] and [path.name for path in (tmp_path / "run").iterdir()] == [".lock"]
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert (tmp_path / "run" / ".lock").exists()
    assert loop.train(**tiny, workdir=tmp_path / "run") == 12


def test_train_command_is_refused_before_anything_is_written(holder, tmp_path, capsys, monkeypatch):
    for name in ("assemble", "_start"):
        monkeypatch.setattr(train, name, lambda *_: pytest.fail("the lock comes first"))
    config = ROOT / "configs/shapes/clip.py"
    assert main(["train", f"--config={config}", f"--workdir={tmp_path / 'run'}"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("unclip train: workdir ") and f"(process {holder.pid})" in said and said.count("\n") == 1
    assert [path.name for path in (tmp_path / "run").iterdir()] == [".lock"]


def test_tokenizer_is_written_under_the_lock(tmp_path, monkeypatch):
    """`experiment.train_stage` holds it from the start on, and hands it to `loop.train`."""
    found = []

    def assembles(config, workdir):
        found.append(in_thread(lambda: lock_workdir(workdir).__enter__()))
        raise ZeroDivisionError

    monkeypatch.setattr(train, "assemble", assembles)
    config = experiment.load_config(ROOT / "configs/shapes/clip.py")
    with pytest.raises(ZeroDivisionError):
        experiment.train_stage(config, tmp_path / "run")
    assert isinstance(found[0], FolderInUse) and not (tmp_path / "run").exists()


def test_only_the_leader_locks(tmp_path, monkeypatch):
    with lock_workdir(tmp_path):
        monkeypatch.setattr(jax, "process_index", lambda: 1)
        assert in_thread(lambda: lock_workdir(tmp_path).__enter__()) is None
