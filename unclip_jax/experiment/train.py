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
    """Trains the stage of a config, or resumes its training.

    If the data source is a generated dataset, it is generated first if it is missing. Kinds that encode captions have
    their own tokenizer (see `tokenizer.own_tokenizer`). Other stages use the tokenizer of their encoder.

    Args:
      config: Config of the run.
      workdir: Folder of the run. If it contains a checkpoint, training resumes from it.
      progress: Whether to show a progress bar.

    Returns:
      The last step.

    Raises:
      ValueError: If the config is invalid, another run is using `workdir`, or `loop.train` raises it.
      FloatingPointError: See `loop.train`.
      KeyboardInterrupt: See `loop.train`.
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
    """Initial values from `config.training.init_from`, which are None if the task initializes them.

    Attributes:
      params: EMA parameters of a workdir, or parameters of a packaged stage.
      variables: Variables of the workdir's task; {} for a packaged stage.
      source: Digest of the parameters and provenance of the stage.
    """

    params: PyTree | None = None
    variables: PyTree | None = None
    source: dict[str, Any] | None = None


def _start(config: ExperimentConfig) -> _Start:
    """Reads `config.training.init_from`.

    Raises:
      ValueError: If it is not a workdir or a packaged stage, or does not match the network.
    """
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
            f"config.training.init_from must be a workdir or the folder of a stage in a cascade, got {init_from!r}."
        )
    expected = parameter_shapes(config.build(np.float32))
    parameters.check(parameters.flatten(params), expected, f"weights of config.training.init_from {init_from!r}")
    return _Start(params, variables, {"digest": parameters.digest(params), "trained": provenance})
