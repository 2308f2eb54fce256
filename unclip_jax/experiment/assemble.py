"""Construction of a run from its config: encoders, tokenizer, data, task and extras."""

import dataclasses
import itertools
from collections.abc import Mapping
from typing import Any

import jax
from etils import epath
from ml_collections import ConfigDict

from unclip_jax import parameters
from unclip_jax.arrays import PyTree
from unclip_jax.data.pipeline import Pipeline
from unclip_jax.data.records import Source
from unclip_jax.data.sources import open_source, source_type
from unclip_jax.experiment.config import typed
from unclip_jax.experiment.encoders import check_widths, image_encoder_of, load_encoders
from unclip_jax.experiment.spec import ExperimentConfig
from unclip_jax.experiment.tokenizer import own_tokenizer
from unclip_jax.kinds.kind import TaskParts
from unclip_jax.models.precision import compute_dtype
from unclip_jax.stages.stage import CaptionTokenizer, Stage
from unclip_jax.training.checkpoints import restore_extras
from unclip_jax.training.task import Task


@dataclasses.dataclass(frozen=True, eq=False)
class TrainingInputs:
    """Arguments of `training.loop.train` that follow from a config.

    Attributes:
      task: Training task of the stage.
      frozen: Parameters of the encoder of each role, and the extras.
      extras: Untrained arrays of the stage; {} if it has none.
      train_data: Batches of the training split.
      eval_data: Batches of the evaluation split.
    """

    task: Task
    frozen: PyTree
    extras: PyTree
    train_data: Pipeline
    eval_data: Pipeline


def assemble(config: ExperimentConfig | ConfigDict, workdir: epath.PathLike) -> TrainingInputs:
    """Builds the task and the data of a run.

    Args:
      config: Config of the run.
      workdir: Folder of the run. A resumed run reads its tokenizer and extras from there. A new tokenizer is written
        there.

    Raises:
      ValueError: If an encoder or the data is missing or does not match the network, or if the config is invalid. The
        message names the field.
    """
    config, workdir = typed(config), epath.Path(workdir)
    module = config.build(compute_dtype(config.training.dtype, jax.default_backend()))
    encoders = load_encoders(config)
    check_widths(config, module, encoders)
    source = open_source(config.data, config.data.split)
    check_encoder = source_type(config.data.source).check_encoder
    if check_encoder is not None:
        check_encoder(config.data, parameters.digest(image_encoder_of(encoders).params))
    tokenizer = _tokenizer(config, encoders, source, workdir)
    train_data, eval_data = (_pipeline(config, split, tokenizer, source) for split in _splits(config))
    parts = TaskParts(config.stage, module, config.options, encoders, config.training)
    task = config.stage_kind.make_task(parts)
    extras = _extras(config, parts, train_data, workdir)
    frozen = {role: encoder.params for role, encoder in encoders.items()}
    return TrainingInputs(task, {**frozen, **extras}, extras, train_data, eval_data)


def _splits(config: ExperimentConfig) -> tuple[str, str]:
    return config.data.split, config.data.eval_split


def _pipeline(config: ExperimentConfig, split: str, tokenizer: CaptionTokenizer | None, source: Source) -> Pipeline:
    is_training = split == config.data.split
    return Pipeline(
        config.data,
        split,
        global_batch=config.training.global_batch,
        seed=config.training.seed,
        tokenizer=tokenizer,
        shuffle=is_training,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
        source=source if is_training else None,
    )


def _extras(config: ExperimentConfig, parts: TaskParts, data: Pipeline, workdir: epath.Path) -> Mapping[str, Any]:
    """Returns the extras of the latest checkpoint, or computes them from at most one epoch."""
    if config.stage_kind.fit_extras is None:
        return {}
    epoch = itertools.islice(data.batches(0), -(-len(data) // config.training.global_batch))
    return restore_extras(workdir) or config.stage_kind.fit_extras(parts, epoch)


def _tokenizer(
    config: ExperimentConfig, encoders: Mapping[str, Stage], source: Source, workdir: epath.Path
) -> CaptionTokenizer | None:
    """Returns the stage's own tokenizer if its kind has one, otherwise the tokenizer of its encoder."""
    if config.stage_kind.tokenizer is not None:
        return own_tokenizer(config, source, workdir)
    return next((stage.tokenizer for stage in encoders.values() if stage.tokenizer is not None), None)
