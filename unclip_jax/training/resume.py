"""Resuming from the latest intact checkpoint of a workdir, if config and frozen parameters match."""

import contextlib
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import jax
from etils import epath

from unclip_jax import files
from unclip_jax.arrays import PyTree
from unclip_jax.training.checkpoint_record import CheckpointRecord, DamagedCheckpoint, read_record, steps_saved
from unclip_jax.training.checkpoints import Checkpoints
from unclip_jax.training.spec import RunConfig, check_same
from unclip_jax.training.state import TrainState

T = TypeVar("T")

CONFIG = "config.json"


def check_workdir(config: RunConfig, workdir: epath.PathLike) -> None:
    """Checks that a run can use a workdir. Writes nothing.

    Args:
      config: Settings of the run.
      workdir: Folder of the run. It may be missing.

    Raises:
      NewerSchema: If the latest checkpoint that is not damaged was written by a newer version of unclip_jax.
      ValueError: If `workdir` is a file or was trained with another config.
    """
    workdir = epath.Path(workdir)
    if workdir.exists() and not workdir.is_dir():
        raise ValueError(f"workdir must be a folder, got the file {str(workdir)!r}.")
    for step in reversed(steps_saved(workdir)):
        with contextlib.suppress(DamagedCheckpoint):
            read_record(workdir, step)
            break
    if (workdir / CONFIG).exists():
        check_same(config, files.read_json(workdir / CONFIG), str(workdir))


def latest_record(
    workdir: epath.PathLike, config: RunConfig, digests: Mapping[str, str]
) -> tuple[int, CheckpointRecord | None]:
    """Reads the latest intact record.

    Args:
      workdir: Folder of the run.
      config: Settings of the run.
      digests: Digests of the frozen parameters by name.

    Returns:
      The step and the record, or (0, None) if there is no checkpoint.

    Raises:
      DamagedCheckpoint: If all records are damaged.
      NewerSchema: If a newer version of unclip_jax wrote the latest record that is not damaged.
      ValueError: If the checkpoint was trained with another config or with different frozen parameters.
    """
    steps = steps_saved(workdir)
    if not steps:
        return 0, None
    step, record = _first_intact(steps, lambda step: read_record(workdir, step))
    check_same(config, record.config, str(workdir))
    _check_digests(digests, record.frozen, str(workdir))
    return step, record


def latest_state(checkpoints: Checkpoints, step: int, shapes: TrainState) -> tuple[int, TrainState, PyTree]:
    """Restores the latest intact checkpoint up to a step.

    Args:
      checkpoints: Checkpoints of the workdir.
      step: The last step to consider.
      shapes: Shapes and shardings of the state.

    Returns:
      The step, the state and the extras.

    Raises:
      DamagedCheckpoint: If all these checkpoints are damaged.
    """
    steps = [saved for saved in steps_saved(checkpoints.workdir) if saved <= step]
    step, (state, extras) = _first_intact(steps, lambda step: checkpoints.restore(step, shapes))
    return step, state, extras


def _first_intact(steps: Sequence[int], read: Callable[[int], T]) -> tuple[int, T]:
    """Reads the latest intact checkpoint and prints a line for each damaged one."""
    *earlier, step = steps
    try:
        return step, read(step)
    except DamagedCheckpoint as error:
        if not earlier:
            raise
        if jax.process_index() == 0:
            print(f"{error} Resuming from there.", file=sys.stderr)
    return _first_intact(earlier, read)


def _check_digests(digests: Mapping[str, str], stored: Mapping[str, str], workdir: str) -> None:
    changed = [name for name in sorted(stored.keys() | digests.keys()) if stored.get(name) != digests.get(name)]
    if changed:
        listed = "; ".join(f"{name} has digest {digests.get(name)} and had {stored.get(name)}" for name in changed)
        raise ValueError(
            f"workdir {workdir!r} was trained with different frozen parameters: {listed}. Set config.encoders to the "
            "previous ones, or choose another workdir."
        )
