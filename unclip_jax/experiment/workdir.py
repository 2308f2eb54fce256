"""What a workdir says of the stage that was trained in it."""

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
    """The newest checkpoint of a workdir, without its arrays.

    Attributes:
      config: The config of the run.
      digests: For each role, the digest of the encoder that it was trained with.
      provenance: What a packaged stage says of its training.
    """

    workdir: epath.Path
    config: ExperimentConfig
    digests: Mapping[str, str]
    provenance: Mapping[str, Any]

    def restore(self) -> Restored:
        """Reads the averaged parameters, only those of the network."""
        restored = restore_params(self.workdir)
        return dataclasses.replace(restored, params=network_params(restored.params, self.config.stage_kind))


def is_workdir(path: epath.PathLike) -> bool:
    """Returns whether a path is a workdir with checkpoints, or had some."""
    return (epath.Path(path) / "checkpoints").exists()


def read_workdir(workdir: epath.PathLike) -> Trained:
    """Reads the newest checkpoint of a workdir.

    Raises:
      ValueError: If there is none, or it is damaged or cannot be read by this version.
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
    """Reads the config that `unclip train` was last given for a workdir, perhaps after the training had ended."""
    return parse_stored(files.read_json(epath.Path(workdir) / "config.json"))


def network_params(params: PyTree, kind: StageKind) -> PyTree:
    """Returns the parameters without those that were only trained with the network."""
    return {name: tree for name, tree in params.items() if name not in kind.auxiliary}
