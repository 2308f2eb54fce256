"""Training settings: validation, and which of them a resumed run may change."""

import dataclasses

import pytest

from tests.training.changes import changed, run_spec
from unclip_jax import fields
from unclip_jax.training.spec import MAY_CHANGE, RunSpec, TrainingSpec, check_same


@dataclasses.dataclass(frozen=True, kw_only=True)
class Model:
    width: int = 8
    mult: tuple[int, ...] = (1, 2)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Data:
    threads: int = 1
    blur: dict | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(RunSpec):
    """A config with additional sections."""

    model: Model = Model()
    data: Data = Data()
    may_change = MAY_CHANGE | {"data.threads"}


def test_check_same_accepts_equal_config_with_lists_for_tuples():
    assert Config().to_json()["model"]["mult"] == [1, 2]
    check_same(Config(), Config().to_json(), "w")


def test_check_same_uses_default_of_missing_field():
    old = Config().to_json()
    del old["training"]["seed"], old["optimizer"]["freeze"]
    check_same(Config(), old, "w")
    with pytest.raises(ValueError, match="config: training.seed is 3 and was 0"):
        check_same(changed(Config(), training__seed=3), old, "w")
    del old["model"]["width"]  # `RunSpec` has no defaults of this section
    with pytest.raises(ValueError, match="model.width is 8 and was '.absent.'"):
        check_same(Config(), old, "w")


@pytest.mark.parametrize(
    "change",
    [
        {"training__steps": 7},
        {"training__checkpoint_every": 3},
        {"training__keep": 9},
        {"mesh__fsdp": 2},
        {"data__threads": 5},
    ],
)
def test_check_same_accepts_changes_that_do_not_affect_training(change):
    check_same(changed(Config(), **change), Config().to_json(), "w")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model__width": 16}, "model.width is 16 and was 8"),
        ({"model__mult": (1, 4)}, r"model.mult is \[1, 4\] and was \[1, 2\]"),
        ({"training__seed": 1}, "training.seed is 1 and was 0"),
        ({"training__global_batch": 32}, "training.global_batch is 32 and was 64"),
        ({"data__blur": {"sigma": 0.6}}, "data.blur is '.absent.' and was None; data.blur.sigma is 0.6"),
        ({"model__width": 16, "optimizer__b2": 0.9}, "model.width is 16 and was 8; optimizer.b2 is 0.9 and was 0.999"),
    ],
)
def test_check_same_rejects_other_changes_with_both_values(change, message):
    with pytest.raises(ValueError, match=f"^workdir 'w' was trained with another config: {message}"):
        check_same(changed(Config(), **change), Config().to_json(), "w")


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("steps", 0, "config.training.steps must be at least 1, got 0."),
        ("checkpoint_every", -1, "checkpoint_every must be at least 1, got -1."),
        ("eval_every", -1, "eval_every must be at least 1, or 0 to disable it, got -1."),
        ("spike_factor", 0.5, "spike_factor must be greater than 1, or 0 to disable it, got 0.5"),
        ("ema_decay", 1.0, r"ema_decay must be in \[0, 1\), got 1.0"),
        ("dtype", "float16", "dtype must be 'auto' or 'float32' or 'bfloat16', got 'float16'"),
    ],
)
def test_invalid_training_settings_are_rejected(name, value, message):
    with pytest.raises(ValueError, match=message):
        fields.parse(TrainingSpec, {name: value}, where="config.training")


def test_clip_norm_and_skip_norm_must_be_positive():
    for name in ("clip_norm", "skip_norm"):
        with pytest.raises(ValueError, match=f"^{name} must be greater than 0 or None, got 0.0"):
            run_spec(**{f"optimizer__{name}": 0.0})
