"""Checkpoints of a run: saved atomically in the background and verified when they are restored.

`WORKDIR/checkpoints/STEP/` contains the record of `checkpoint_record` and the items "state" (step, parameters,
optimizer), "ema", "variables" and "extras". Each item can be read separately; the last two exist only if they are not
empty.
"""

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from etils import epath
from orbax.checkpoint import v1 as ocp

from unclip_jax import parameters
from unclip_jax.arrays import PyTree
from unclip_jax.training.checkpoint_record import (
    CheckpointRecord,
    DamagedCheckpoint,
    checkpoint_dir,
    damaged,
    describe_all,
    name_of,
    read_record,
    reason,
    steps_saved,
)
from unclip_jax.training.state import TrainState


class Checkpoints:
    """Checkpoints of a workdir during training.

    Saves run in the background. `close` waits for the last one.
    """

    def __init__(self, workdir: epath.PathLike, *, keep: int, keep_every: int = 0):
        """Opens the checkpoints of a workdir and deletes incomplete ones of interrupted runs.

        Args:
          workdir: Folder of the run.
          keep: Number of latest checkpoints to keep.
          keep_every: Also keep the checkpoints whose step is a multiple of this; 0 disables it.
        """
        self.workdir = workdir
        directory = checkpoint_dir(workdir)
        directory.mkdir(parents=True, exist_ok=True)
        policies = ocp.training.preservation_policies
        kept = [policies.LatestN(keep)] + ([policies.EveryNSteps(keep_every)] if keep_every else [])
        self._orbax = ocp.training.Checkpointer(
            directory, preservation_policy=policies.AnyPreservationPolicy(kept), cleanup_tmp_directories=True
        )

    def save(
        self,
        state: TrainState,
        extras: PyTree,
        *,
        config: dict[str, Any],
        frozen: dict[str, str],
        provenance: dict[str, Any] | None = None,
    ) -> None:
        """Starts saving a checkpoint and returns once the state is copied and may be donated.

        Args:
          state: The training state.
          extras: Nested dict of arrays to save with the state; {} for none.
          config: See `CheckpointRecord`.
          frozen: See `CheckpointRecord`.
          provenance: See `CheckpointRecord`.

        Raises:
          OSError: If this checkpoint or the previous one cannot be written, for example because the disk is full.
            `wait` and `close` raise it as well. Complete checkpoints are not affected.
        """
        items = _items(state, extras)
        record = CheckpointRecord(config=config, frozen=frozen, provenance=provenance, arrays=describe_all(items))
        nested = {item: parameters.unflatten(named) for item, named in items.items()}
        with self._writing():
            # An existing checkpoint of this step can only be damaged.
            self._orbax.save_checkpointables_async(
                int(state.step), nested, custom_metadata=record.to_json(), force=True, overwrite=True
            )

    def restore(self, step: int, shapes: TrainState) -> tuple[TrainState, PyTree]:
        """Restores the state and the extras of a checkpoint.

        Args:
          step: Step of the checkpoint.
          shapes: Shapes and shardings of the state. Each array is loaded directly onto its sharding.

        Raises:
          DamagedCheckpoint: If the checkpoint cannot be read or a checksum does not match.
          NewerSchema: If a newer version of unclip_jax wrote the checkpoint.
          ValueError: If the checkpoint belongs to another network. The message names the arrays.
        """
        record = read_record(self.workdir, step)
        expected = _items(shapes, {})
        if "extras" in record.arrays:
            expected["extras"] = record.host_shapes("extras")
        record.check_shapes(expected, where=name_of(self.workdir, step))
        arrays = _load(self._orbax, self.workdir, step, expected, record)
        state = _rebuild(shapes, arrays)
        return state, parameters.unflatten(jax.tree.map(np.asarray, arrays.get("extras", {})))

    def wait(self) -> None:
        """Waits until all checkpoints are on disk."""
        with self._writing():
            self._orbax.wait()

    def close(self) -> None:
        """Waits until all checkpoints are on disk and releases the directory."""
        with self._writing():
            self._orbax.close()

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # the storage backend can raise any exception
            latest = f"of step {max(steps)}" if (steps := steps_saved(self.workdir)) else "none"
            raise OSError(
                f"a checkpoint cannot be written to {str(checkpoint_dir(self.workdir))!r} ({reason(error)}). The "
                f"latest complete checkpoint is {latest}. Free some space and run again to resume."
            ) from error


@dataclasses.dataclass(frozen=True)
class Restored:
    """Parameters that were read from a checkpoint, as NumPy arrays.

    Attributes:
      step: Step of the checkpoint.
      record: Record of the checkpoint.
      params: The parameters, a nested dict.
      variables: Variables of the task; {} if it has none.
      extras: The extras, a nested dict; {} if there are none.
    """

    step: int
    record: CheckpointRecord
    params: PyTree
    variables: PyTree
    extras: PyTree


def restore_params(workdir: epath.PathLike, step: int | None = None, *, averaged: bool = True) -> Restored:
    """Reads the parameters from a checkpoint of a workdir.

    Args:
      workdir: Folder of the run.
      step: Step of the checkpoint. If None, the latest one.
      averaged: Whether to read the EMA parameters, which are used for sampling, or the parameters themselves.

    Raises:
      ValueError: If there is no such checkpoint, it is damaged, or a newer version of unclip_jax wrote it.
    """
    item = "ema" if averaged else "state"
    step, record, trees = _read(workdir, step, (item, "variables", "extras"))
    params = trees["ema"] if averaged else trees["state"]["params"]
    return Restored(step, record, params, trees.get("variables", {}), trees.get("extras", {}))


def restore_extras(workdir: epath.PathLike) -> PyTree | None:
    """Reads the extras from the latest intact checkpoint of a workdir. Returns None if there is none."""
    for step in reversed(steps_saved(workdir)):
        with contextlib.suppress(DamagedCheckpoint):  # reported when the run resumes
            return _read(workdir, step, ("extras",))[2].get("extras", {})
    return None


def restore_record(workdir: epath.PathLike) -> tuple[int, CheckpointRecord]:
    """Reads the step and the record of the latest checkpoint of a workdir, without its arrays.

    Raises:
      ValueError: If there is no checkpoint, it is damaged, or a newer version of unclip_jax wrote it.
    """
    step = _choose(workdir, None)
    return step, read_record(workdir, step)


def _read(
    workdir: epath.PathLike, step: int | None, items: tuple[str, ...]
) -> tuple[int, CheckpointRecord, dict[str, PyTree]]:
    """Returns the step, the record and the items that the checkpoint contains, as trees of NumPy arrays."""
    step = _choose(workdir, step)
    record = read_record(workdir, step)
    expected = {item: record.host_shapes(item) for item in items if item in record.arrays}
    if not expected:
        return step, record, {}
    with ocp.training.Checkpointer(checkpoint_dir(workdir)) as orbax:
        arrays = _load(orbax, workdir, step, expected, record)
    return step, record, {item: parameters.unflatten(jax.tree.map(np.asarray, arrays[item])) for item in arrays}


def _choose(workdir: epath.PathLike, step: int | None) -> int:
    """Returns `step` if it has a checkpoint, or the latest step if it is None."""
    steps = steps_saved(workdir)
    if not steps:
        raise ValueError(f"workdir {str(workdir)!r} contains no checkpoint. Run `unclip train` first.")
    if step is not None and step not in steps:
        available = ", ".join(map(str, steps))
        raise ValueError(f"workdir {str(workdir)!r} has no checkpoint of step {step}. Available: {available}.")
    return max(steps) if step is None else step


def _load(
    orbax: ocp.training.Checkpointer,
    workdir: epath.PathLike,
    step: int,
    expected: dict[str, dict[str, Any]],
    record: CheckpointRecord,
) -> dict[str, dict[str, jax.Array]]:
    """Reads items of a checkpoint as {"a/b": array} and verifies the checksum of every array."""
    try:
        nested = {item: parameters.unflatten(named) for item, named in expected.items()}
        loaded = orbax.load_checkpointables(step, nested)
    except Exception as error:  # a corrupt file can raise any exception
        raise damaged(workdir, step, reason(error)) from error
    arrays = {item: _flatten(loaded[item]) for item in expected}
    if changed := record.changed(arrays):
        raise damaged(workdir, step, f"checksum mismatch: {', '.join(changed)}")
    return arrays


def _items(state: TrainState, extras: PyTree) -> dict[str, dict[str, Any]]:
    """Returns the items of a checkpoint, each as {"a/b": leaf}."""
    items = {"state": _flatten(state.replace(ema=None, variables=None)), "ema": _flatten(state.ema)}
    optional = {"variables": state.variables, "extras": extras}
    return items | {item: _flatten(tree) for item, tree in optional.items() if tree}


def _flatten(tree: PyTree) -> dict[str, Any]:
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {_name(path): leaf for path, leaf in leaves}


def _rebuild(shapes: TrainState, arrays: dict[str, dict[str, jax.Array]]) -> TrainState:
    named = dict(arrays["state"])
    for item in ("ema", "variables"):
        named |= {f"{item}/{name}": leaf for name, leaf in arrays.get(item, {}).items()}
    return jax.tree_util.tree_map_with_path(lambda path, _: named[_name(path)], shapes)


def _name(path: tuple) -> str:
    return jax.tree_util.keystr(path, simple=True, separator="/")
