"""Record of a checkpoint: config, provenance and a checksum of every array.

Orbax stores the record as custom metadata. Orbax detects truncated files but not flipped bits. The checksums detect
those.
"""

import dataclasses
import json
import zlib
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from etils import epath
from jax.experimental import multihost_utils
from jax.sharding import SingleDeviceSharding
from orbax.checkpoint import v1 as ocp

from unclip_jax.arrays import PyTree
from unclip_jax.errors import first_line
from unclip_jax.schema import NewerSchema, check_schema

SCHEMA = 1
MAX_NAMES = 8  # number of arrays that an error message lists


class DamagedCheckpoint(ValueError):  # noqa: N818
    """Error for a checkpoint that cannot be read or whose files have changed since they were written."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class CheckpointRecord:
    """Description of a checkpoint.

    Attributes:
      config: The config of the run, as stored in JSON.
      frozen: Digests of the frozen parameters by name.
      provenance: Description of the start of the run that the caller of `loop.train` passed, as stored in JSON. May be
        None.
      arrays: [type, shape, CRC-32] of every array, by item ("state", "ema", "variables" or "extras") and name.
    """

    config: dict[str, Any]
    frozen: dict[str, str]
    provenance: dict[str, Any] | None
    arrays: dict[str, dict[str, list]]

    def to_json(self) -> dict[str, Any]:
        """Returns the record as stored in JSON, with a checksum of its own."""
        content = {
            "schema": SCHEMA,
            "config": self.config,
            "frozen": self.frozen,
            "origin": self.provenance,
            "arrays": self.arrays,
        }
        return {**content, "crc": _crc(content)}

    @classmethod
    def from_json(cls, content: Mapping[str, Any], *, where: str) -> "CheckpointRecord":
        """Parses a record.

        Args:
          content: The stored JSON.
          where: Name of the checkpoint for the error message.

        Raises:
          NewerSchema: If a newer version of unclip_jax wrote the record.
          KeyError: If a field is missing.
          ValueError: If the record does not match its checksum.
        """
        # Check the schema first: a newer one may have other fields and another checksum.
        check_schema(content["schema"], SCHEMA, where)
        content = dict(content)
        crc = content.pop("crc", None)  # early versions did not write a checksum
        if crc not in (None, _crc(content)):
            raise ValueError("the record does not match its checksum")
        known = {name: content[name] for name in ("config", "frozen", "arrays")}
        return cls(**known, provenance=content.get("origin"))

    def host_shapes(self, item: str) -> dict[str, jax.ShapeDtypeStruct]:
        """Returns the shapes and types of an item's arrays by name, sharded to the first local device."""
        here = SingleDeviceSharding(jax.local_devices()[0])
        return {
            name: jax.ShapeDtypeStruct(tuple(shape), jax.numpy.dtype(dtype), sharding=here)
            for name, (dtype, shape, _) in self.arrays[item].items()
        }

    def check_shapes(self, expected: Mapping[str, Mapping[str, Any]], *, where: str) -> None:
        """Checks the shapes of all arrays.

        Args:
          expected: Shapes by item and name.
          where: Name of the checkpoint for the error message.

        Raises:
          ValueError: If an array is missing, unexpected or has another shape. The message lists names and shapes.
        """
        stored = {
            (item, name): tuple(shape) for item, named in self.arrays.items() for name, (_, shape, _) in named.items()
        }
        needed = {(item, name): tuple(leaf.shape) for item, named in expected.items() for name, leaf in named.items()}
        differ = sorted(key for key in stored.keys() | needed.keys() if stored.get(key) != needed.get(key))
        if differ:
            listed = ", ".join(
                f"{'/'.join(key)} must be {needed.get(key, 'absent')}, got {stored.get(key, 'none')}"
                for key in differ[:MAX_NAMES]
            )
            more = f" and {len(differ) - MAX_NAMES} more" if len(differ) > MAX_NAMES else ""
            raise ValueError(f"{where} does not match the network: {listed}{more}.")

    def changed(self, arrays: Mapping[str, Mapping[str, jax.Array]]) -> list[str]:
        """Returns the names of the arrays that differ from the saved ones."""
        return [
            f"{item}/{name}"
            for item, named in arrays.items()
            for name, leaf in named.items()
            if describe(leaf) != self.arrays[item][name]
        ]


def describe(leaf: jax.Array) -> list:
    """Returns [type, shape, CRC-32 of the bytes] of an array, gathered from all processes."""
    is_local = getattr(leaf, "is_fully_addressable", True)
    array = np.ascontiguousarray(leaf if is_local else multihost_utils.process_allgather(leaf, tiled=True))
    return [array.dtype.name, list(leaf.shape), zlib.crc32(array.view(np.uint8).reshape(-1))]


def describe_all(items: Mapping[str, Mapping[str, jax.Array]]) -> PyTree:
    """Returns `CheckpointRecord.arrays` for the items of a checkpoint."""
    return {item: {name: describe(leaf) for name, leaf in named.items()} for item, named in items.items()}


def checkpoint_dir(workdir: epath.PathLike) -> epath.Path:
    """Returns the directory of a workdir's checkpoints."""
    path = epath.Path(workdir) / "checkpoints"
    return path if "://" in str(path) else path.absolute()  # Orbax does not accept relative paths


def steps_saved(workdir: epath.PathLike) -> list[int]:
    """Returns the steps of a workdir's checkpoints in ascending order, without incomplete ones."""
    directory = checkpoint_dir(workdir)
    if not directory.exists():
        return []
    return sorted(int(entry.name) for entry in directory.iterdir() if entry.name.isdigit())


def read_record(workdir: epath.PathLike, step: int) -> CheckpointRecord:
    """Reads the record of a checkpoint.

    Raises:
      DamagedCheckpoint: If the record cannot be read or does not match its checksum.
      NewerSchema: If a newer version of unclip_jax wrote the record. Such a checkpoint is intact. It must be neither
        skipped nor overwritten.
    """
    try:
        with ocp.training.Checkpointer(checkpoint_dir(workdir)) as orbax:
            content = orbax.metadata(step).custom_metadata
        return CheckpointRecord.from_json(content, where=name_of(workdir, step))
    except NewerSchema:
        raise
    except Exception as error:  # a corrupt file can raise any exception
        raise damaged(workdir, step, reason(error)) from error


def name_of(workdir: epath.PathLike, step: int) -> str:
    """Returns the name of a checkpoint for messages."""
    return f"checkpoint {str(checkpoint_dir(workdir) / str(step))!r}"


def damaged(workdir: epath.PathLike, step: int, why: str) -> DamagedCheckpoint:
    """Returns the error for a damaged checkpoint."""
    earlier = [other for other in steps_saved(workdir) if other < step]
    previous = f"The previous checkpoint is of step {max(earlier)}." if earlier else "There is no earlier checkpoint."
    return DamagedCheckpoint(f"{name_of(workdir, step)} is damaged ({why}). {previous}")


def reason(error: Exception) -> str:
    """Returns the first line of the root cause of an error. Orbax wraps errors several times."""
    cause: BaseException = error
    while cause.__cause__:
        cause = cause.__cause__
    return first_line(cause)


def _crc(content: Mapping[str, Any]) -> int:
    return zlib.crc32(json.dumps(content, sort_keys=True).encode())
