"""Settings of a run that are common to all stages, and which of them a resumed run may change."""

import dataclasses
from collections.abc import Collection, Mapping
from typing import Any, Literal, Protocol

from unclip_jax import fields

_ABSENT = "(absent)"


@dataclasses.dataclass(frozen=True, kw_only=True)
class OptimizerSpec:
    """Settings of AdamW, gradient clipping and the learning-rate schedule, see `training.optimizer`.

    Attributes:
      learning_rate: Peak learning rate.
      schedule: Decay of the learning rate after the warm-up.
      warmup_steps: Number of updates over which the learning rate increases linearly; 0 disables the warm-up.
      b1: Decay rate of the first moment.
      b2: Decay rate of the second moment.
      eps: Added to the square root of the second moment.
      weight_decay: Decoupled weight decay of the kernels.
      clip_norm: Largest global norm of the gradient. Longer gradients are scaled down. If None, there is no clipping.
      skip_norm: Steps whose gradient has a larger global norm are skipped. If None, steps are skipped only if the loss,
        the gradient or a variable of the task is not finite.
      freeze: Shell patterns of parameters that are not trained, such as "unet/down_*".
    """

    learning_rate: float = 1e-4
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    warmup_steps: int = 0
    b1: float = 0.9
    b2: float = 0.999
    eps: float = 1e-8
    weight_decay: float = 0.0
    clip_norm: float | None = 1.0
    skip_norm: float | None = None
    freeze: tuple[str, ...] = ()

    def __post_init__(self):
        for name in ("clip_norm", "skip_norm"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"{name} must be greater than 0 or None, got {value}.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingSpec:
    """Length of a run, its batches, and how often it logs, evaluates and saves.

    Attributes:
      steps: Number of training steps.
      global_batch: Rows per step, over all processes and devices.
      micro_batches: Number of micro-batches per step. More micro-batches need less memory.
      log_every: Number of steps between logged steps.
      eval_every: Number of steps between evaluations; 0 disables them.
      eval_batches: Number of batches per evaluation.
      preview_every: Number of steps between previews; 0 disables them.
      preview_count: Number of rows per preview.
      checkpoint_every: Number of steps between checkpoints.
      keep: Number of latest checkpoints to keep.
      keep_every: Also keep the checkpoints whose step is a multiple of this; 0 disables it.
      seed: Random seed of the initial parameters, the order of the data and the noise, in [0, 2**32).
      ema_decay: Decay of the moving average of the parameters, in [0, 1).
      dtype: Dtype of the computation. "auto" is bfloat16 on TPU and GPU, and float32 on CPU.
      max_bad_steps: Stop the run after this many skipped steps in a row.
      spike_factor: Log a spike if the loss exceeds this multiple of the median of the last 50; 0 disables it.
      init_from: Workdir or packaged stage whose parameters initialize a new run. If empty or None, the run starts from
        scratch.
    """

    steps: int = 1000
    global_batch: int = 64
    micro_batches: int = 1
    log_every: int = 20
    eval_every: int = 500
    eval_batches: int = 4
    preview_every: int = 1000
    preview_count: int = 8
    checkpoint_every: int = 500
    keep: int = 2
    keep_every: int = 0
    seed: int = 0
    ema_decay: float = 0.9999
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    max_bad_steps: int = 20
    spike_factor: float = 10.0
    init_from: str | None = ""

    def __post_init__(self):
        positive = ("steps", "global_batch", "micro_batches", "log_every", "checkpoint_every", "keep", "max_bad_steps")
        for name in (*positive, "eval_batches", "preview_count"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}.")
        for name in ("eval_every", "preview_every", "keep_every"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be at least 1, or 0 to disable it, got {getattr(self, name)}.")
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"seed must be from 0 to {2**32 - 1}, got {self.seed}.")
        if self.spike_factor < 0 or 0 < self.spike_factor <= 1:
            raise ValueError(f"spike_factor must be greater than 1, or 0 to disable it, got {self.spike_factor}.")
        if not 0.0 <= self.ema_decay < 1.0:
            raise ValueError(f"ema_decay must be in [0, 1), got {self.ema_decay}.")

    def is_due(self, step: int, every: int) -> bool:
        """Returns whether `step` is a multiple of `every` or the last step. Returns False if `every` is 0."""
        return bool(every) and (step % every == 0 or step == self.steps)


@dataclasses.dataclass(frozen=True, kw_only=True)
class MeshSpec:
    """Number of devices along each axis of the mesh, see `sharding.mesh`.

    One of them may be -1, for all remaining devices.

    Attributes:
      data: Axis that replicates the parameters and splits the batch.
      fsdp: Axis that splits the parameters and the batch.
      tensor: Axis that splits the parameters along their features.
    """

    data: int = -1
    fsdp: int = 1
    tensor: int = 1


class RunConfig(Protocol):
    """Config of a run, as `training.loop` uses it. It may have further sections.

    Attributes:
      optimizer: Optimizer settings.
      training: Training settings.
      mesh: Mesh of the devices.
      may_change: Sections ("mesh") and fields ("training.steps") that a resumed run may change.
    """

    optimizer: OptimizerSpec
    training: TrainingSpec
    mesh: MeshSpec
    may_change: Collection[str]

    def to_json(self) -> dict[str, Any]:
        """Returns the config as a dict of sections, as the workdir stores it."""

    def upgrade(self, stored: Mapping[str, Any]) -> dict[str, Any]:
        """Converts a stored config, possibly of an earlier version, to the current names and defaults."""


# These fields do not change the objective of the training, only its duration, precision, dropout masks and reports.
MAY_CHANGE = frozenset(
    {
        "mesh",
        *(f"training.{name}" for name in ("steps", "log_every", "eval_every", "eval_batches", "preview_every")),
        *(f"training.{name}" for name in ("preview_count", "checkpoint_every", "keep", "max_bad_steps")),
        *(f"training.{name}" for name in ("keep_every", "micro_batches", "dtype", "spike_factor")),
    }
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunSpec:
    """A `RunConfig` without further sections."""

    optimizer: OptimizerSpec = OptimizerSpec()
    training: TrainingSpec = TrainingSpec()
    mesh: MeshSpec = MeshSpec()
    may_change = MAY_CHANGE

    def to_json(self) -> dict[str, Any]:
        """See `RunConfig`."""
        return fields.to_json(self)

    def upgrade(self, stored: Mapping[str, Any]) -> dict[str, Any]:
        """See `RunConfig`. Missing fields have their defaults."""
        defaults = RunSpec().to_json()
        return {**stored, **{name: {**defaults[name], **stored.get(name, {})} for name in defaults}}


def check_same(config: RunConfig, stored: Mapping[str, Any], workdir: str) -> None:
    """Checks that a run can resume with a config.

    Args:
      config: Config of the run.
      stored: Config that the workdir stores.
      workdir: Folder of the run, for the error message.

    Raises:
      ValueError: If fields differ that a resumed run may not change. The message lists them with both values.
    """
    before, now = _leaves(config.upgrade(stored)), _leaves(config.to_json())
    changes = [
        f"{name} is {now.get(name, _ABSENT)!r} and was {before.get(name, _ABSENT)!r}"
        for name in sorted(before.keys() | now.keys())
        if before.get(name, _ABSENT) != now.get(name, _ABSENT)
        and name not in config.may_change
        and name.partition(".")[0] not in config.may_change
    ]
    if changes:
        raise ValueError(
            f"workdir {workdir!r} was trained with another config: {'; '.join(changes)}. "
            "Restore these values to resume the run, or choose another workdir."
        )


def _leaves(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Returns {"a.b": 1} for {"a": {"b": 1}}. An empty section has no leaves, like a missing one."""
    leaves = {}
    for name, value in tree.items():
        leaves |= _leaves(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
    return leaves
