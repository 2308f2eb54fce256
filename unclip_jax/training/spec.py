"""Settings of a run that hold for every stage, and which of them a resumed run may change."""

import dataclasses
from collections.abc import Collection, Mapping
from typing import Any, Literal, Protocol

from unclip_jax import fields

_ABSENT = "(absent)"


@dataclasses.dataclass(frozen=True, kw_only=True)
class OptimizerSpec:
    """AdamW with gradient clipping, warm-up and a learning-rate schedule, see `training.optimizer`.

    Attributes:
      learning_rate: Peak learning rate.
      schedule: How the learning rate falls after the warm-up.
      warmup_steps: Updates over which the learning rate rises linearly; 0 disables the warm-up.
      b1: Decay of the first moment.
      b2: Decay of the second moment.
      eps: Added to the root of the second moment.
      weight_decay: Decoupled weight decay of the kernels.
      clip_norm: Gradients are scaled down to this global norm. If None, they are not clipped.
      skip_norm: A step whose gradient has a larger global norm changes nothing. If None, only steps that are not finite
        are skipped.
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
      steps: Training steps.
      global_batch: Rows per step, over all processes and devices.
      micro_batches: Number of parts into which a step splits the batch to need less memory.
      log_every: Steps between logged steps.
      eval_every: Steps between evaluations; 0 disables them.
      eval_batches: Batches per evaluation.
      preview_every: Steps between previews; 0 disables them.
      preview_count: Rows per preview.
      checkpoint_every: Steps between checkpoints.
      keep: Number of latest checkpoints to keep.
      keep_every: Also keep the checkpoints of multiples of this many steps; 0 disables it.
      seed: Seed of the parameters, the order of the data and the noise.
      ema_decay: Decay of the moving average of the parameters, in [0, 1).
      dtype: In which the networks compute; "auto" is bfloat16 on TPU and GPU, and float32 on CPU.
      max_bad_steps: Stop the run after this many skipped steps in a row.
      spike_factor: Log a spike if the loss exceeds this multiple of the median of the last 50; 0 disables it.
      init_from: Workdir or packaged stage whose parameters a new run starts from. If empty, it starts from scratch.
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
        """Returns whether `step` is a multiple of `every` or the last step. 0 disables."""
        return bool(every) and (step % every == 0 or step == self.steps)


@dataclasses.dataclass(frozen=True, kw_only=True)
class MeshSpec:
    """Number of devices along each axis of the mesh, see `sharding.mesh`; one of them may be -1, for all that are left.

    Attributes:
      data: Replicates the parameters and splits the batch.
      fsdp: Splits the parameters and the batch.
      tensor: Splits the parameters along their features.
    """

    data: int = -1
    fsdp: int = 1
    tensor: int = 1


class RunConfig(Protocol):
    """What `training.loop` reads of a config, which may have further sections.

    Attributes:
      may_change: Sections ("mesh") and fields ("training.steps") that a resumed run may change.
    """

    optimizer: OptimizerSpec
    training: TrainingSpec
    mesh: MeshSpec
    may_change: Collection[str]

    def to_json(self) -> dict[str, Any]:
        """Returns the config as a workdir stores it: a dict of sections."""

    def upgrade(self, stored: Mapping[str, Any]) -> dict[str, Any]:
        """Returns what a workdir stores, possibly written by an earlier version, with today's names and defaults."""


# The learned function depends on none of these, except for how long it was learned.
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
    """The smallest `RunConfig`: a run without any further sections."""

    optimizer: OptimizerSpec = OptimizerSpec()
    training: TrainingSpec = TrainingSpec()
    mesh: MeshSpec = MeshSpec()
    may_change = MAY_CHANGE

    def to_json(self) -> dict[str, Any]:
        return fields.to_json(self)

    def upgrade(self, stored: Mapping[str, Any]) -> dict[str, Any]:
        defaults = RunSpec().to_json()
        return {**stored, **{name: {**defaults[name], **stored.get(name, {})} for name in defaults}}


def check_same(config: RunConfig, stored: Mapping[str, Any], workdir: str) -> None:
    """Checks that a run may resume.

    Args:
      config: The config of the run.
      stored: What the workdir stores.
      workdir: For the message.

    Raises:
      ValueError: If a field differs that a resumed run must not change. The message names every such field.
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
    """{"a": {"b": 1}} -> {"a.b": 1}. An empty section has no leaves, like a missing one."""
    found = {}
    for name, value in tree.items():
        found |= _leaves(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
    return found
