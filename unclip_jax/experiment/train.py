"""Training of one stage."""

import dataclasses
from typing import Any

import jax
import numpy as np
from etils import epath
from ml_collections import ConfigDict

from unclip_jax import parameters
from unclip_jax.arrays import PyTree
from unclip_jax.cascades.folder import CONFIG, load_stage
from unclip_jax.data.sources import check_directory, describe
from unclip_jax.experiment.assemble import assemble
from unclip_jax.experiment.config import typed
from unclip_jax.experiment.spec import ExperimentConfig
from unclip_jax.experiment.workdir import is_workdir, read_workdir
from unclip_jax.folder_update import current
from unclip_jax.models.network import parameter_shapes
from unclip_jax.training import loop
from unclip_jax.training.checkpoint_record import steps_saved
from unclip_jax.training.resume import check_workdir
from unclip_jax.training.workdir_lock import lock_workdir


def train_stage(config: ConfigDict | ExperimentConfig, workdir: epath.PathLike, *, progress: bool = True) -> int:
    """Trains the stage of a config in `workdir`, or resumes it. Returns the last step.

    Data that can be generated is generated first. A kind that reads captions trains its own tokenizer; other stages use
    that of their encoder.

    Raises:
      ValueError: For a config that cannot work, another run that is training in `workdir`, and whatever else
        `loop.train` refuses.
    """
    config = typed(config)
    check_directory(config.data)
    loop.check_config(config)
    check_workdir(config, workdir)
    with lock_workdir(workdir):
        resumes = bool(steps_saved(workdir))
        start = _Start() if resumes else _start(config)
        inputs = assemble(config, workdir)
        return loop.train(
            inputs.task,
            config=config,
            frozen=inputs.frozen,
            extras=inputs.extras,
            train_data=inputs.train_data,
            eval_data=inputs.eval_data,
            workdir=workdir,
            initial_params=start.params,
            initial_variables=start.variables,
            provenance={"data": describe(config.data), "split": config.data.split, "from": start.source},
            progress=progress,
        )


@dataclasses.dataclass(frozen=True, eq=False)
class _Start:
    """What `config.training.init_from` provides. Without it, the task initializes everything.

    Attributes:
      params: The averaged parameters of a workdir, or those of a packaged stage.
      variables: The variables of the workdir's task.
      source: Digest of the parameters and provenance of the stage.
    """

    params: PyTree | None = None
    variables: PyTree | None = None
    source: dict[str, Any] | None = None


def _start(config: ExperimentConfig) -> _Start:
    """Reads `config.training.init_from`. Raises ValueError if it is missing or does not fit the network."""
    init_from = config.training.init_from
    if not init_from:
        return _Start()
    folder, variables = epath.Path(init_from), {}
    if is_workdir(folder):
        trained = read_workdir(folder)
        restored, provenance = trained.restore(), trained.provenance
        params, variables = restored.params, restored.variables
    elif current(folder.parent, folder.name, CONFIG).exists():
        stage = load_stage(folder, dtype="float32")
        params, provenance = jax.tree.map(np.asarray, stage.params), stage.spec.provenance
    else:
        raise ValueError(
            f"config.training.init_from must be a workdir or the folder of a packaged stage, got {init_from!r}."
        )
    expected = parameter_shapes(config.build(np.float32))
    parameters.check(parameters.flatten(params), expected, f"weights of config.training.init_from {init_from!r}")
    return _Start(params, variables, {"digest": parameters.digest(params), "trained": provenance})
