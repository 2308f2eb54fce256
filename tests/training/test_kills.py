"""A run that is killed repeatedly ends with exactly the same parameters as an uninterrupted run."""

import os
import pathlib
import random
import signal
import subprocess
import sys
import time

import pytest

from tests.training.run_to_be_killed import STEPS
from unclip_jax.data.captioned_shapes import builder
from unclip_jax.training.checkpoint_record import read_record, steps_saved
from unclip_jax.training.metric_writer import read_metrics

ROOT = pathlib.Path(__file__).parents[2]
KILLS, IN_WRITES = 10, 3
PATIENCE = 300.0


@pytest.fixture
def start():
    """Starts runs, each in its own session. Runs that are still alive after the test are killed."""
    started = []

    def start_run(workdir, data_dir, steps=STEPS):
        command = [sys.executable, "-m", "tests.training.run_to_be_killed", str(workdir), str(data_dir), str(steps)]
        environment = {**os.environ, "XLA_FLAGS": "", "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)}
        log = (workdir.parent / f"{workdir.name}.log").open("a")
        run = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log, start_new_session=True)
        started.append(run)
        return run

    yield start_run
    for run in started:
        if run.poll() is None:
            kill(run)


def kill(process):
    """Kills the whole session, including data workers, as in a power failure."""
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def partial(workdir):
    folder = workdir / "checkpoints"
    names = [path.name for path in folder.iterdir()] if folder.exists() else []
    return [name for name in names if not name.isdigit() and "tmp" in name]


def steps_logged(workdir):
    return [line["step"] for line in read_metrics(workdir)]


def wait_for(condition, process):
    """Returns True once the condition holds, or False if the run ended before."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if process.poll() is not None:
            return False
        assert time.monotonic() < deadline, "the run hangs"
        time.sleep(0.001)
    return True


def final(workdir):
    """Returns the type, shape and checksum of every array of the last checkpoint."""
    return read_record(workdir, STEPS).arrays


def workers(process):
    """Returns the process IDs of the data workers of a run."""
    threads = pathlib.Path(f"/proc/{process.pid}/task").iterdir()
    children = [child for thread in threads for child in (thread / "children").read_text().split()]
    return [int(child) for child in children if b"spawn_main" in pathlib.Path(f"/proc/{child}/cmdline").read_bytes()]


@pytest.mark.slow
def test_killed_data_worker_ends_run_with_error_message(tmp_path, start):
    data, workdir = tmp_path / "data", tmp_path / "run"
    builder.prepare(data, size="tiny")
    process = start(workdir, data, steps=1_000_000)
    assert wait_for(lambda: max(steps_logged(workdir), default=0) > 2, process)
    (worker,) = workers(process)
    os.kill(worker, signal.SIGKILL)
    assert process.wait(60.0) == 1
    log = (tmp_path / "run.log").read_text()
    assert "ChildProcessError: A data-loading process has died (config.data.workers 1: Worker process" in log
    assert "exit code -9). Run again to resume from the latest checkpoint" in log


@pytest.mark.slow
def test_run_killed_ten_times_matches_uninterrupted_run(tmp_path, start):
    data, uninterrupted, killed = tmp_path / "data", tmp_path / "uninterrupted", tmp_path / "killed"
    builder.prepare(data, size="tiny")
    assert start(uninterrupted, data).wait(PATIENCE) == 0
    generator, kills, in_writes = random.Random(0), 0, 0
    while kills < KILLS or in_writes < IN_WRITES:
        process = start(killed, data)
        saved = max(steps_saved(killed), default=0)
        left_over = set(partial(killed))
        if kills % 2:  # kill while a checkpoint is being written
            alive = wait_for(lambda left_over=left_over: set(partial(killed)) - left_over, process)
        else:  # kill shortly after the first step that is not saved yet
            alive = wait_for(lambda saved=saved: max(steps_logged(killed), default=0) > saved, process)
            time.sleep(generator.uniform(0.0, 0.1))
        if not alive:
            break
        before = set(partial(killed))
        kill(process)
        kills += 1
        in_writes += bool(before & set(partial(killed)))
    else:
        assert start(killed, data).wait(PATIENCE) == 0
    log = (tmp_path / "killed.log").read_text()
    assert kills >= KILLS and in_writes >= IN_WRITES, (kills, in_writes, log[-2000:])
    assert final(killed) == final(uninterrupted)
    assert steps_logged(killed) == steps_logged(uninterrupted) == list(range(1, STEPS + 1))
    names = ("step", "loss", "grad_norm", "learning_rate")
    lines = [
        [{name: line[name] for name in names} for line in read_metrics(workdir)] for workdir in (killed, uninterrupted)
    ]
    assert lines[0] == lines[1]
    assert "Traceback" not in log
