"""Checkpoints of a run: saved in the background, either complete or not at all, and verified when read.

`WORKDIR/checkpoints/STEP/` contains the items "state" (step, parameters, optimizer), "ema", and, if there are any,
"variables" and "extras", which can be read separately, and the record of `checkpoint_record`.
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
    """The checkpoints of a workdir during training. Close it: the last save may still be in progress."""

    def __init__(self, workdir: epath.PathLike, *, keep: int, keep_every: int = 0):
        """Opens the checkpoints of a workdir and removes what interrupted runs left behind.

        Args:
          keep: Number of latest checkpoints to keep.
          keep_every: Also keep the checkpoints of multiples of this many steps; 0 disables it.
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
        """Starts to save a checkpoint. Returns once the arrays are copied, so that the state may be donated.

        Args:
          extras: Nested dict of arrays to keep next to the state; {} for none.
          config, frozen, provenance: See `CheckpointRecord`.

        Raises:
          OSError: If this checkpoint or the previous one cannot be written, such as on a full disk. `wait` and `close`
            raise it too. Complete checkpoints stay.
        """
        items = _items(state, extras)
        record = CheckpointRecord(config=config, frozen=frozen, provenance=provenance, arrays=describe_all(items))
        nested = {item: parameters.unflatten(named) for item, named in items.items()}
        with self._writing():
            # An existing checkpoint of this step can only be a damaged one.
            self._orbax.save_checkpointables_async(
                int(state.step), nested, custom_metadata=record.to_json(), force=True, overwrite=True
            )

    def restore(self, step: int, shapes: TrainState) -> tuple[TrainState, PyTree]:
        """Reads the state and the extras of a checkpoint, each array directly onto its sharding in `shapes`.

        Raises:
          DamagedCheckpoint: If the files differ from what was written.
          ValueError: If the checkpoint is of another network. The message names the arrays.
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
        """Returns when everything that was saved is on disk."""
        with self._writing():
            self._orbax.wait()

    def close(self) -> None:
        """Waits, and releases the directory."""
        with self._writing():
            self._orbax.close()

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # whatever the storage raises
            latest = f"of step {max(steps)}" if (steps := steps_saved(self.workdir)) else "none"
            raise OSError(
                f"a checkpoint cannot be written to {str(checkpoint_dir(self.workdir))!r} ({reason(error)}). The "
                f"latest complete checkpoint is {latest}. Free some space and run again to resume."
            ) from error


@dataclasses.dataclass(frozen=True)
class Restored:
    """The parameters of a finished or running training, as numpy arrays.

    Attributes:
      step: The step of the checkpoint.
      record: What the checkpoint says about itself.
      params: The parameters, a nested dict.
      variables: The variables of the task; {} if it has none.
      extras: The arrays that were kept next to the state; {} if there are none.
    """

    step: int
    record: CheckpointRecord
    params: PyTree
    variables: PyTree
    extras: PyTree


def restore_params(workdir: epath.PathLike, step: int | None = None, *, averaged: bool = True) -> Restored:
    """Reads the parameters of a workdir.

    Args:
      step: Step of the checkpoint. If None, the latest.
      averaged: Whether to read the moving average, which is used for sampling, or the parameters themselves.

    Raises:
      ValueError: If the workdir has no such checkpoint, or it is damaged.
    """
    item = "ema" if averaged else "state"
    step, record, trees = _read(workdir, step, (item, "variables", "extras"))
    params = trees["ema"] if averaged else trees["state"]["params"]
    return Restored(step, record, params, trees.get("variables", {}), trees.get("extras", {}))


def restore_extras(workdir: epath.PathLike) -> PyTree | None:
    """Reads the extras of a workdir's latest intact checkpoint. Returns None if it has no such checkpoint."""
    for step in reversed(steps_saved(workdir)):
        with contextlib.suppress(DamagedCheckpoint):  # the run that resumes reports it
            return _read(workdir, step, ("extras",))[2].get("extras", {})
    return None


def restore_record(workdir: epath.PathLike) -> tuple[int, CheckpointRecord]:
    """Reads step and record of a workdir's latest checkpoint, but no arrays. Raises like `restore_params`."""
    step = _choose(workdir, None)
    return step, read_record(workdir, step)


def _read(
    workdir: epath.PathLike, step: int | None, items: tuple[str, ...]
) -> tuple[int, CheckpointRecord, dict[str, PyTree]]:
    """Returns step, record, and those of the items that the checkpoint has, as numpy trees."""
    step = _choose(workdir, step)
    record = read_record(workdir, step)
    expected = {item: record.host_shapes(item) for item in items if item in record.arrays}
    if not expected:
        return step, record, {}
    with ocp.training.Checkpointer(checkpoint_dir(workdir)) as orbax:
        arrays = _load(orbax, workdir, step, expected, record)
    return step, record, {item: parameters.unflatten(jax.tree.map(np.asarray, arrays[item])) for item in arrays}


def _choose(workdir: epath.PathLike, step: int | None) -> int:
    """Returns `step` if it has a checkpoint, and the latest one if it is None."""
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
    """Reads items of a checkpoint as {"a/b": array} and verifies every array against its checksum."""
    try:
        nested = {item: parameters.unflatten(named) for item, named in expected.items()}
        loaded = orbax.load_checkpointables(step, nested)
    except Exception as error:  # a broken file can raise anything
        raise damaged(workdir, step, reason(error)) from error
    arrays = {item: _flatten(loaded[item]) for item in expected}
    if changed := record.changed(arrays):
        raise damaged(workdir, step, f"checksum mismatch: {', '.join(changed)}")
    return arrays


def _items(state: TrainState, extras: PyTree) -> dict[str, dict[str, Any]]:
    """Returns the parts of a checkpoint that can be read separately, each as {"a/b": leaf}."""
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
