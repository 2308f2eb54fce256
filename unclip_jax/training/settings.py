"""The settings of a run: their defaults, what makes sense, and which of them a resumed run may change."""

import json
from typing import Any

from ml_collections import ConfigDict

# What another value leaves true: how long, how often, where, and how a cascade later samples. What is frozen is told
# apart by its digest and not by its name.
FREE_FIELDS = {
    *(f"training.{name}" for name in ("steps", "log_every", "eval_every", "eval_batches", "preview_every")),
    *(f"training.{name}" for name in ("preview_count", "checkpoint_every", "keep", "max_bad_steps")),
    *(f"training.{name}" for name in ("keep_every", "micro_batches", "dtype", "spike_factor")),
    *(f"data.{name}" for name in ("workers", "threads", "cache", "dir", "max_unreadable")),
}
FREE_SECTIONS = ("mesh", "frozen", "sampling")
_ABSENT = "(absent)"


def default_config() -> ConfigDict:
    """The sections `optimizer`, `training` and `mesh`, which hold for every stage."""
    return ConfigDict(
        {
            "optimizer": {
                "learning_rate": 1e-4,
                "schedule": "constant",  # constant, cosine, linear
                "warmup_steps": 0,
                "b1": 0.9,
                "b2": 0.999,
                "eps": 1e-8,
                "weight_decay": 0.0,
                "clip_norm": 1.0,
                "skip_norm": None,  # a step whose gradient is longer changes nothing; None: any length will do
                "freeze": (),  # patterns of parameters that stay as they are, such as "unet/down_*"
            },
            "training": {
                "steps": 1000,
                "global_batch": 64,
                "micro_batches": 1,  # into which a step splits the batch, to need less memory
                "log_every": 20,
                "eval_every": 500,  # 0: never
                "eval_batches": 4,
                "preview_every": 1000,  # 0: never
                "preview_count": 8,
                "checkpoint_every": 500,
                "keep": 2,  # of the newest checkpoints
                "keep_every": 0,  # checkpoints of multiples of so many steps stay for ever; 0: none
                "seed": 0,
                "ema_decay": 0.9999,
                "dtype": "auto",  # of the networks' computation: bfloat16 on TPU and GPU, float32 on CPU
                "max_bad_steps": 20,
                "spike_factor": 10.0,  # a loss so many times the median of the last 50 is written down; 0: none
                "init_from": "",  # nothing: random parameters
            },
            "mesh": {"data": -1, "fsdp": 1, "tensor": 1},
        }
    )


def check(config: ConfigDict) -> None:
    """Raises ValueError for a number that no run can have."""
    training = config.training
    numbers = ("steps", "global_batch", "micro_batches", "log_every", "checkpoint_every", "keep", "max_bad_steps")
    for name in numbers:
        if training[name] < 1:
            raise ValueError(f"config.training.{name} {training[name]} must be 1 or more")
    for name in ("eval_every", "preview_every", "keep_every"):
        if training[name] < 0:
            raise ValueError(f"config.training.{name} {training[name]} must be 1 or more, or 0 for never")
    if training.spike_factor < 0 or 0 < training.spike_factor <= 1:
        raise ValueError(f"config.training.spike_factor {training.spike_factor} must be more than 1, or 0 for never")
    for name in ("clip_norm", "skip_norm"):
        if config.optimizer[name] is not None and not config.optimizer[name] > 0:
            raise ValueError(f"config.optimizer.{name} {config.optimizer[name]} must be more than 0, or None")
    if not 0.0 <= training.ema_decay < 1.0:
        raise ValueError(f"config.training.ema_decay {training.ema_decay} must lie in [0, 1)")


def as_json(config: ConfigDict) -> dict[str, Any]:
    """The config as JSON holds it: tuples are lists."""
    return json.loads(json.dumps(config.to_dict()))


def check_same(stored: dict[str, Any], wanted: ConfigDict, workdir: str, defaults: ConfigDict | None = None) -> None:
    """Raises ValueError that names every field in which a workdir's config differs and may not.

    Args: defaults: what a field had that came into the program later than the workdir, beside those of this file.
    """
    known = _filled(as_json(defaults or ConfigDict()), as_json(default_config()))
    was = _leaves(_filled(stored, known))
    now = _leaves(as_json(wanted))
    changes = [
        f"{name} is {now.get(name, _ABSENT)!r} and was {was.get(name, _ABSENT)!r}"
        for name in sorted(was.keys() | now.keys())
        if was.get(name, _ABSENT) != now.get(name, _ABSENT)
        and name not in FREE_FIELDS
        and name.partition(".")[0] not in FREE_SECTIONS
    ]
    if changes:
        raise ValueError(
            f"workdir {workdir!r} was trained with another config: {'; '.join(changes)}. "
            "Set them back to go on with it, or choose another workdir."
        )


def _filled(tree: dict[str, Any], defaults: dict[str, Any]) -> dict[str, Any]:
    """`tree` with the defaults of the fields that it lacks."""
    filled = {**defaults, **tree}
    for name in defaults.keys() & tree.keys():
        if isinstance(tree[name], dict) and isinstance(defaults[name], dict):
            filled[name] = _filled(tree[name], defaults[name])
    return filled


def _leaves(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"a": {"b": 1}} -> {"a.b": 1}. An empty section has no leaf, as a missing one."""
    found = {}
    for name, value in tree.items():
        found |= _leaves(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return found
