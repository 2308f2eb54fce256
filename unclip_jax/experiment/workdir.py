"""Reading of a trained stage from a workdir."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from etils import epath

from unclip_jax import files
from unclip_jax.arrays import PyTree
from unclip_jax.experiment.spec import ExperimentConfig, parse_stored
from unclip_jax.kinds import StageKind
from unclip_jax.training.checkpoints import Restored, restore_params, restore_record


@dataclasses.dataclass(frozen=True, eq=False)
class Trained:
    """Latest checkpoint of a workdir, without its arrays.

    Attributes:
      workdir: Folder of the run.
      config: Config of the run.
      digests: Digest of the encoder of each role.
      provenance: Description of the training, which a packaged stage stores.
    """

    workdir: epath.Path
    config: ExperimentConfig
    digests: Mapping[str, str]
    provenance: Mapping[str, Any]

    def restore(self) -> Restored:
        """Reads the EMA parameters of the network."""
        restored = restore_params(self.workdir)
        return dataclasses.replace(restored, params=network_params(restored.params, self.config.stage_kind))


def is_workdir(path: epath.PathLike) -> bool:
    """Returns whether a path is a workdir, that is, whether it has a checkpoint folder."""
    return (epath.Path(path) / "checkpoints").exists()


def read_workdir(workdir: epath.PathLike) -> Trained:
    """Reads the latest checkpoint of a workdir, without its arrays.

    Raises:
      ValueError: If there is no checkpoint, or it is damaged or not readable by this version.
    """
    step, record = restore_record(workdir)
    try:
        config = parse_stored(record.config)
    except ValueError as error:
        raise ValueError(f"workdir {str(workdir)!r}: {error}") from error
    training = {"global_batch": config.training.global_batch, "seed": config.training.seed}
    provenance = {"steps": step, **training, **(record.provenance or {})}
    return Trained(epath.Path(workdir), config, record.frozen, provenance)


def current_config(workdir: epath.PathLike) -> ExperimentConfig:
    """Reads the config of the last call of `unclip train` for a workdir.

    It may be newer than the config of the latest checkpoint, if the call was made after the training finished.
    """
    return parse_stored(files.read_json(epath.Path(workdir) / "config.json"))


def network_params(params: PyTree, kind: StageKind) -> PyTree:
    """Returns the parameters without auxiliary parameters, which are trained but not part of the network."""
    return {name: tree for name, tree in params.items() if name not in kind.auxiliary}
