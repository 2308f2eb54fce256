"""Typed training config, which `parse` creates from a `ConfigDict` or dicts."""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

from flax import linen as nn

from unclip_jax import fields, images
from unclip_jax.data.rows import batch_fields
from unclip_jax.data.sources import check_source
from unclip_jax.data.spec import MAY_CHANGE as DATA_MAY_CHANGE
from unclip_jax.data.spec import DataSpec
from unclip_jax.diffusion.spec import DiffusionSpec
from unclip_jax.experiment.aliases import renamed
from unclip_jax.kinds import KINDS, StageKind, kind_of
from unclip_jax.models.network import build, fields_of
from unclip_jax.stages.spec import EncoderRef, Size, StageSpec, check_stage_name
from unclip_jax.training.spec import MAY_CHANGE, MeshSpec, OptimizerSpec, TrainingSpec

SECTIONS = ("task", "model", "encoders", "diffusion", "sampling", "data", "optimizer", "training", "mesh")
# Fields of config.task that all kinds have, with their types. Each kind adds its options.
TASK_TYPES = {"kind": str, "stage": str, "low_res_size": Size | None, "mask_channels": bool}
# Field of config.data that must be set so that batches have a field.
_SET_BY = {"tokens": "captions", "clip_image": "clip_size", "low_res": "low_res_size"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExperimentConfig:
    """Config of a training run.

    Attributes:
      stage: The stage to train. Its encoders are named by their roles until it is packaged.
      options: Task options, an instance of `StageKind.options`. None if the kind has no options.
      encoders: Source of the frozen encoder of each role: name of a bundled cascade, cascade folder, folder of a stage
        in it, or hub id.
      data: See `data.spec`.
      optimizer: See `training.spec`.
      training: See `training.spec`.
      mesh: See `training.spec`.
      may_change: See `training.spec.RunConfig`. Encoders are compared by digest, so their sources may change.
    """

    stage: StageSpec
    options: Any
    encoders: Mapping[str, str]
    data: DataSpec
    optimizer: OptimizerSpec
    training: TrainingSpec
    mesh: MeshSpec
    may_change: ClassVar[frozenset[str]] = (
        MAY_CHANGE | {"encoders", "sampling"} | {f"data.{name}" for name in DATA_MAY_CHANGE}
    )

    @property
    def stage_kind(self) -> StageKind:
        """Kind of the stage."""
        return kind_of(self.stage)

    def build(self, dtype: Any) -> nn.Module:
        """Builds the network with the compute dtype `dtype`."""
        return self.stage_kind.build(self.stage, where="config", dtype=dtype)

    def sections(self) -> dict[str, dict[str, Any]]:
        """Returns all fields by section, in the format that `parse` reads."""
        stage, options = self.stage, self.options
        names = {"kind": self.stage_kind.name, "stage": stage.name}
        sizes = {"low_res_size": stage.low_res_size, "mask_channels": stage.mask_channels}
        typed = {
            "diffusion": stage.diffusion,
            "sampling": stage.sampling,
            "data": self.data,
            "optimizer": self.optimizer,
            "training": self.training,
            "mesh": self.mesh,
        }
        return {
            "task": {**names, **sizes, **({} if options is None else dataclasses.asdict(options))},
            "model": dict(stage.model),
            "encoders": dict(self.encoders),
            **{name: {} if section is None else dataclasses.asdict(section) for name, section in typed.items()},
        }

    def to_json(self) -> dict[str, Any]:
        """See `training.spec.RunConfig`."""
        return fields.to_json(self.sections())

    def upgrade(self, stored: Mapping[str, Any]) -> dict[str, Any]:
        """See `training.spec.RunConfig`; a config that cannot be parsed is returned unchanged."""
        try:
            return parse_stored(stored).to_json()
        except ValueError:  # the comparison reports the fields that differ
            return dict(stored)


def trainable_kind(name: Any) -> StageKind:
    """Returns a stage kind that can be trained.

    Args:
      name: Name of the kind.

    Raises:
      ValueError: If the kind is unknown or cannot be trained. The message lists the available kinds.
    """
    kind = KINDS.choose(name, where="config.task.kind")
    if kind.make_task is None:
        trainable = ", ".join(name for name, other in KINDS.items() if other.make_task is not None)
        raise ValueError(
            f"config.task.kind {name!r} can be loaded and sampled, but not trained. Trainable: {trainable}."
        )
    return kind


def parse(sections: Mapping[str, Mapping[str, Any]]) -> ExperimentConfig:
    """Parses the sections of a config.

    Args:
      sections: Fields by section, with current names. Missing sections have their defaults.

    Raises:
      ValueError: If a field is unknown, missing or invalid. The message contains "config.SECTION.FIELD".
    """
    fields.check_names(sections, SECTIONS, where="config")
    sections = {name: sections.get(name, {}) for name in SECTIONS}
    for name, section in sections.items():
        if not isinstance(section, Mapping):
            raise ValueError(f"config.{name} must be a mapping of fields, got {section!r}.")
    task = dict(sections["task"])
    missing = [name for name in ("kind", "stage") if name not in task]
    if missing:
        raise ValueError(f"config.task lacks {', '.join(missing)}.")
    kind = trainable_kind(task["kind"])
    fields.check_names(task, [*TASK_TYPES, *(fields.names(kind.options) if kind.options else ())], where="config.task")
    shared = {
        name: fields.convert(TASK_TYPES[name], task.pop(name), where=f"config.task.{name}")
        for name in TASK_TYPES
        if name in task
    }
    data = fields.parse(DataSpec, sections["data"], where="config.data")
    check_source(data)
    encoders = {
        role: fields.convert(str, source, where=f"config.encoders.{role}")
        for role, source in sections["encoders"].items()
        if source is not None
    }
    return ExperimentConfig(
        stage=_stage(kind, shared, data, encoders, sections),
        options=fields.parse(kind.options, task, where="config.task") if kind.options else None,
        encoders=encoders,
        data=data,
        optimizer=fields.parse(OptimizerSpec, sections["optimizer"], where="config.optimizer"),
        training=fields.parse(TrainingSpec, sections["training"], where="config.training"),
        mesh=fields.parse(MeshSpec, sections["mesh"], where="config.mesh"),
    )


def parse_stored(stored: Mapping[str, Any]) -> ExperimentConfig:
    """Parses the config of a workdir.

    Configs of older versions are accepted. They may have deprecated names, and encoders that the kind does not use.

    Args:
      stored: Config that the workdir stores.

    Raises:
      ValueError: If a field is unknown, missing or invalid.
    """
    sections = renamed(stored, warn=False)
    kind = trainable_kind(sections.get("task", {}).get("kind"))
    roles = kind.roles(build(kind.network, sections.get("model", {}), where="config.model"))
    encoders = {role: source for role, source in sections.get("encoders", {}).items() if role in roles}
    return parse({**sections, "encoders": encoders})


def check_data(config: ExperimentConfig) -> None:
    """Checks that the data matches the stage.

    Raises:
      ValueError: If batches lack a field that the kind is trained on, or if the image size or low-resolution size of an
        image stage differs from that of the data.
    """
    kind, stage, data = config.stage_kind, config.stage, config.data
    for name in kind.batch_fields:
        if name in batch_fields(data):
            continue
        if name not in _SET_BY:
            raise ValueError(
                f"config.data.source {data.source} has no {name}, which kind {kind.name!r} is trained on. Choose "
                "another source."
            )
        raise ValueError(f"config.data.{_SET_BY[name]} must be set: kind {kind.name!r} is trained on {name}.")
    if kind.produces == "image":
        _check_size("model.image_size", stage.model["image_size"], "image_size", data.image_size)
        if stage.low_res_size is not None:
            _check_size("task.low_res_size", stage.low_res_size, "low_res_size", data.low_res_size)


def _check_size(name: str, value: Size, data_name: str, data_value: int) -> None:
    if images.height_width(value) != images.height_width(data_value):
        raise ValueError(f"config.{name} must be config.data.{data_name}, which is {data_value}, got {value}.")


def _stage(kind: StageKind, task: dict, data: DataSpec, encoders: Mapping[str, str], sections: Mapping) -> StageSpec:
    """Returns the spec of the stage, with all fields of its network."""
    try:
        check_stage_name(task["stage"])
    except ValueError as error:
        raise ValueError(f"config.task.stage: {error}") from error
    diffusion = sampling = None
    if kind.denoising is not None:
        diffusion = fields.parse(DiffusionSpec, sections["diffusion"], where="config.diffusion")
    else:
        _check_unused(kind, "diffusion", sections["diffusion"], DiffusionSpec)
    if kind.is_sampled:
        sampling = fields.parse(kind.settings, sections["sampling"], where="config.sampling")
    else:
        _check_unused(kind, "sampling", sections["sampling"], kind.settings)
    low_res_size = task.get("low_res_size")
    if low_res_size is None and kind.upsamples is not False:
        low_res_size = data.low_res_size
    spec = StageSpec(
        name=task["stage"],
        kind=kind.name,
        model=dict(sections["model"]),
        encoders={role: EncoderRef(stage=role) for role in encoders},
        low_res_size=low_res_size,
        mask_channels=task.get("mask_channels", False),
        diffusion=diffusion,
        sampling=sampling,
    )
    model = fields_of(kind.build(spec, where="config"))
    sampling = kind.resolve(spec, sampling) if kind.is_sampled else None
    return dataclasses.replace(spec, model=model, sampling=sampling)


def _check_unused(kind: StageKind, section: str, content: Mapping[str, Any], cls: type) -> None:
    """Raises ValueError if a section that the kind does not use differs from its defaults."""
    parsed = fields.parse(cls, content, where=f"config.{section}")
    for field in dataclasses.fields(cls):
        if getattr(parsed, field.name) != getattr(cls(), field.name):
            raise ValueError(
                f"config.{section}.{field.name} has no effect on kind {kind.name!r}, which is not sampled. Leave it "
                "out."
            )
