"""Checkpoints of a run: written in the background, whole or not at all, the last few kept, and checked when read.

    WORKDIR/checkpoints/STEP/   state (step, parameters, optimizer), ema, extras, and as metadata the record: schema
                                version, config, digests of the frozen parameters, the origin, of each array type,
                                shape, CRC-32, and at last the CRC-32 of the record itself

Orbax raises on a truncated file but returns a flipped byte without a word; the checksums find it.
"""

import contextlib
import dataclasses
import json
import zlib
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from etils import epath
from jax.experimental import multihost_utils
from jax.sharding import SingleDeviceSharding
from orbax.checkpoint import v1 as ocp

from unclip_jax import parameters
from unclip_jax.arrays import PyTree
from unclip_jax.errors import first_line
from unclip_jax.schema import NewerSchema, check_schema
from unclip_jax.training.state import TrainState

SCHEMA = 1


class DamagedCheckpoint(ValueError):
    """A checkpoint whose files are not what was written."""


@dataclasses.dataclass(frozen=True)
class Restored:
    """What a finished or running training has to give.

    Args:
      params: the parameters, a nested dict of numpy arrays.
      config: the config of the run as JSON holds it.
      step: of the checkpoint.
      extras: arrays that the task keeps beside its parameters; {} where there are none.
      frozen: name -> digest of the frozen parameters that it was trained beside.
      origin: what the caller of the training said of what it began with, as JSON holds it; None: nothing.
    """

    params: PyTree
    config: dict[str, Any]
    step: int
    extras: PyTree
    frozen: dict[str, str]
    origin: dict[str, Any] | None = None


class Checkpoints:
    """The checkpoints of a workdir that is being trained in. Close it: the last one may still be on its way."""

    def __init__(self, workdir: epath.PathLike, *, keep: int, keep_every: int = 0):
        """
        Args:
          keep: how many of the newest checkpoints stay.
          keep_every: those of multiples of so many steps stay too; 0: none.
        """
        self.directory = directory(workdir)
        self.directory.mkdir(parents=True, exist_ok=True)
        policies = ocp.training.preservation_policies
        kept = [policies.LatestN(keep)] + ([policies.EveryNSteps(keep_every)] if keep_every else [])
        self._orbax = ocp.training.Checkpointer(
            self.directory, preservation_policy=policies.AnyPreservationPolicy(kept), cleanup_tmp_directories=True
        )

    def save(
        self,
        state: TrainState,
        extras: PyTree,
        *,
        config: dict[str, Any],
        frozen: dict[str, str],
        origin: dict[str, Any] | None = None,
    ) -> None:
        """Begins to write a checkpoint; returns once the arrays are copied, so that the state may be donated.

        Args:
          extras: nested dict of arrays to be kept beside the state; {} for none.
          config: as JSON holds it.
          frozen: name -> digest of frozen parameters.
          origin: what is to be remembered of what the run began with, as JSON holds it.

        Raises OSError where this checkpoint, or the one begun before, cannot be written, as on a full disk; so do
        `wait` and `close`. Those that were whole stay.
        """
        items = _items(state, extras)
        record = {
            "schema": SCHEMA,
            "config": config,
            "frozen": frozen,
            "origin": origin,
            "arrays": {item: {name: _describe(leaf) for name, leaf in named.items()} for item, named in items.items()},
        }
        record["crc"] = _crc_of(record)
        nested = {item: parameters.unflatten(named) for item, named in items.items()}
        with self._writing():
            # A checkpoint of this step can only be one that was found damaged.
            self._orbax.save_checkpointables_async(
                int(state.step), nested, custom_metadata=record, force=True, overwrite=True
            )

    def restore(self, step: int, shapes: TrainState) -> tuple[TrainState, PyTree]:
        """The state and the extras of a checkpoint, each array straight onto the sharding that `shapes` names.

        Raises DamagedCheckpoint, and ValueError for one of another network, with the names.
        """
        record = read_record(self.directory, step)
        wanted = _items(shapes, {})
        if "extras" in record["arrays"]:
            wanted["extras"] = _host_shapes(record["arrays"]["extras"])
        _check_shapes(record["arrays"], wanted, self.directory / str(step))
        found = _load(self._orbax, self.directory, step, wanted, record)
        state = _rebuild(shapes, {**found["state"], **{f"ema/{name}": leaf for name, leaf in found["ema"].items()}})
        return state, parameters.unflatten(jax.tree.map(np.asarray, found.get("extras", {})))

    def wait(self) -> None:
        """Returns when what was saved is on disk."""
        with self._writing():
            self._orbax.wait()

    def close(self) -> None:
        with self._writing():
            self._orbax.close()

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # whatever the storage says
            whole = f"of step {max(steps)}" if (steps := _steps(self.directory)) else "none"
            raise OSError(
                f"a checkpoint cannot be written to {str(self.directory)!r} ({_reason(error)}); the newest whole one "
                f"is {whole}. Make room, and run it again to go on from there."
            ) from error


def directory(workdir: epath.PathLike) -> epath.Path:
    path = epath.Path(workdir) / "checkpoints"
    return path if "://" in str(path) else path.absolute()  # Orbax takes no relative path


def steps_saved(workdir: epath.PathLike) -> list[int]:
    """The steps of a workdir's checkpoints, the newest last. One whose writing was broken off is none."""
    return _steps(directory(workdir))


def restore_params(workdir: epath.PathLike, step: int | None = None, *, averaged: bool = True) -> Restored:
    """The parameters of a workdir as numpy arrays, from its checkpoint of `step` (None: the newest): their moving
    average, the one to sample with, or those that the last step left.

    Raises ValueError for a workdir without that checkpoint, or a damaged one.
    """
    item = "ema" if averaged else "state"
    step, record, trees = _read(workdir, step, (item, "extras"))
    params, extras = trees["ema"] if averaged else trees["state"]["params"], trees.get("extras", {})
    return Restored(params, record["config"], step, extras, frozen=record["frozen"], origin=record["origin"])


def restore_extras(workdir: epath.PathLike) -> PyTree | None:
    """The extras of a workdir's newest whole checkpoint, so that a resumed run need not make them again. None: it has
    none yet."""
    for step in reversed(steps_saved(workdir)):
        with contextlib.suppress(DamagedCheckpoint):  # the loop says so, and takes the one before too
            return _read(workdir, step, ("extras",))[2].get("extras", {})
    return None


def restore_record(workdir: epath.PathLike) -> tuple[int, dict[str, Any]]:
    """Returns step and record of a workdir's newest checkpoint, reading no arrays; errors as in `restore_params`."""
    step = _chosen(workdir, None)
    return step, read_record(directory(workdir), step)


def check_schema_of_newest(workdir: epath.PathLike) -> None:
    """Raises NewerSchema if the newest checkpoint that is not damaged was written by a newer version of unclip_jax."""
    for step in reversed(steps_saved(workdir)):
        with contextlib.suppress(DamagedCheckpoint):
            read_record(directory(workdir), step)
            return


def _read(workdir: epath.PathLike, step: int | None, items: tuple[str, ...]) -> tuple[int, dict, dict[str, PyTree]]:
    """Step, record, and those of the items that the checkpoint has, as numpy trees."""
    folder, step = directory(workdir), _chosen(workdir, step)
    record = read_record(folder, step)
    wanted = {item: _host_shapes(record["arrays"][item]) for item in items if item in record["arrays"]}
    if not wanted:
        return step, record, {}
    with ocp.training.Checkpointer(folder) as orbax:
        found = _load(orbax, folder, step, wanted, record)
    return step, record, {item: parameters.unflatten(jax.tree.map(np.asarray, found[item])) for item in found}


def _chosen(workdir: epath.PathLike, step: int | None) -> int:
    """A step that has a checkpoint, the newest one if `step` is None."""
    steps = steps_saved(workdir)
    if not steps:
        raise ValueError(f"workdir {str(workdir)!r} has no checkpoint: train it first")
    if step is not None and step not in steps:
        known = ", ".join(map(str, steps))
        raise ValueError(f"workdir {str(workdir)!r} has no checkpoint of step {step}; known: {known}")
    return max(steps) if step is None else step


def read_record(folder: epath.Path, step: int) -> dict[str, Any]:
    """What a checkpoint says of itself.

    Raises:
      DamagedCheckpoint: If it cannot be read, or is not the record that was written.
      NewerSchema: If a newer version of unclip_jax wrote it. It is intact, and must be neither skipped nor overwritten.
    """
    try:
        with ocp.training.Checkpointer(folder) as orbax:
            record = dict(orbax.metadata(step).custom_metadata)
        # Before anything else: a later schema may have other fields and another checksum.
        check_schema(record["schema"], SCHEMA, f"checkpoint {str(folder / str(step))!r}")
        crc = record.pop("crc", None)  # None: of a version that wrote none
        if crc not in (None, _crc_of(record)):
            raise ValueError("the record is not the one that was written")
        known = {name: record[name] for name in ("schema", "config", "frozen", "arrays")}
        return {**known, "origin": record.get("origin")}
    except NewerSchema:
        raise
    except Exception as error:
        raise _damaged(folder, step, error) from error


def _crc_of(record: dict[str, Any]) -> int:
    return zlib.crc32(json.dumps(record, sort_keys=True).encode())


def _items(state: TrainState, extras: PyTree) -> dict[str, dict[str, Any]]:
    """The parts of a checkpoint that are read apart, each as {"a/b": leaf}."""
    items = {"state": _named(state.replace(ema=None)), "ema": _named(state.ema)}
    return items | ({"extras": _named(extras)} if extras else {})


def _named(tree: PyTree) -> dict[str, Any]:
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}


def _rebuild(shapes: TrainState, named: dict[str, jax.Array]) -> TrainState:
    return jax.tree_util.tree_map_with_path(
        lambda path, _: named[jax.tree_util.keystr(path, simple=True, separator="/")], shapes
    )


def _describe(leaf: jax.Array) -> list:
    """[type, shape, CRC-32 of the bytes] of an array, wherever its parts are."""
    whole = getattr(leaf, "is_fully_addressable", True)
    array = np.ascontiguousarray(leaf if whole else multihost_utils.process_allgather(leaf, tiled=True))
    return [array.dtype.name, list(leaf.shape), zlib.crc32(array.view(np.uint8).reshape(-1))]


def _host_shapes(described: dict[str, list]) -> dict[str, jax.ShapeDtypeStruct]:
    here = SingleDeviceSharding(jax.local_devices()[0])
    return {
        name: jax.ShapeDtypeStruct(tuple(shape), jax.numpy.dtype(dtype), sharding=here)
        for name, (dtype, shape, _) in described.items()
    }


def _check_shapes(stored: dict[str, dict], wanted: dict[str, dict], path: epath.Path) -> None:
    was = {(item, name): tuple(shape) for item in stored for name, (_, shape, _) in stored[item].items()}
    now = {(item, name): tuple(leaf.shape) for item in wanted for name, leaf in wanted[item].items()}
    differ = sorted(key for key in was.keys() | now.keys() if was.get(key) != now.get(key))
    if differ:
        said = ", ".join(
            f"{'/'.join(key)} {now.get(key, 'unknown')} was {was.get(key, 'absent')}" for key in differ[:8]
        )
        more = f" and {len(differ) - 8} more" if len(differ) > 8 else ""
        raise ValueError(f"checkpoint {str(path)!r} is of another network: {said}{more}")


def _load(orbax, folder: epath.Path, step: int, wanted: dict[str, dict], record: dict) -> dict[str, dict]:
    """Reads parts of a checkpoint as {"a/b": array}, and checks every array against its checksum."""
    try:
        found = orbax.load_checkpointables(step, {item: parameters.unflatten(named) for item, named in wanted.items()})
    except Exception as error:  # whatever a broken file makes the reader stumble over
        raise _damaged(folder, step, error) from error
    flat = {item: _named(found[item]) for item in wanted}
    bad = [
        f"{item}/{name}"
        for item, named in flat.items()
        for name, leaf in named.items()
        if _describe(leaf) != record["arrays"][item][name]
    ]
    if bad:
        raise _damaged(folder, step, f"not the bytes that were saved: {', '.join(bad)}")
    return flat


def _damaged(folder: epath.Path, step: int, why: Any) -> DamagedCheckpoint:
    before = [other for other in _steps(folder) if other < step]
    others = f"The one before it is of step {max(before)}." if before else "There is none before it."
    return DamagedCheckpoint(f"checkpoint {str(folder / str(step))!r} is damaged ({_reason(why)}). {others}")


def _reason(why: Any) -> str:
    """The first line of what lies at the bottom of an error."""
    while getattr(why, "__cause__", None):  # Orbax wraps what it stumbled over in several errors of its own
        why = why.__cause__
    return first_line(why)


def _steps(folder: epath.Path) -> list[int]:
    if not folder.exists():
        return []
    return sorted(int(entry.name) for entry in folder.iterdir() if entry.name.isdigit())
