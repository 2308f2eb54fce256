"""Settings: what is refused, and what a resumed run may change."""

import pytest
from ml_collections import ConfigDict

from unclip_jax.training import settings


def config_of(**leaves):
    config = settings.default_config()
    config.model = ConfigDict({"width": 8, "mult": (1, 2)})
    config.data = ConfigDict({"threads": 1, "cache": False, "blur": None})
    config.frozen = ConfigDict({"clip": "shapes"})
    for name, value in leaves.items():
        section, leaf = name.split("__")
        with config.unlocked():
            config[section][leaf] = value
    return config


def test_the_same_config_passes_and_tuples_are_lists():
    settings.check_same(settings.as_json(config_of()), config_of(), "w")


def test_a_workdir_older_than_a_field_had_its_default():
    old = settings.as_json(config_of())
    del old["training"]["seed"], old["optimizer"]["freeze"]
    settings.check_same(old, config_of(), "w")
    with pytest.raises(ValueError, match="config: training.seed is 3 and was 0"):
        settings.check_same(old, config_of(training__seed=3), "w")
    newer = config_of()
    newer.data.flip = False
    with pytest.raises(ValueError, match="data.flip is False and was '.absent.'"):
        settings.check_same(old, newer, "w")
    defaults = ConfigDict({"data": {"flip": False, "blur": None}})
    settings.check_same(old, newer, "w", defaults)
    newer.data.blur = old["data"]["blur"] = {"sigma": 0.6}  # a section where the default is none
    settings.check_same(old, newer, "w", defaults)


@pytest.mark.parametrize(
    "change",
    [
        {"training__steps": 7},
        {"training__checkpoint_every": 3},
        {"training__keep": 9},
        {"mesh__fsdp": 2},
        {"data__threads": 5},
        {"data__cache": True},
        {"frozen__clip": "/elsewhere/shapes"},
    ],
)
def test_what_leaves_the_training_the_same_may_change(change):
    settings.check_same(settings.as_json(config_of()), config_of(**change), "w")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"model__width": 16}, "model.width is 16 and was 8"),
        ({"model__mult": (1, 4)}, r"model.mult is \[1, 4\] and was \[1, 2\]"),
        ({"training__seed": 1}, "training.seed is 1 and was 0"),
        ({"training__global_batch": 32}, "training.global_batch is 32 and was 64"),
        ({"training__steps_more": 1}, "training.steps_more is 1 and was '.absent.'"),
        ({"data__blur": ConfigDict({"sigma": 0.6})}, "data.blur is '.absent.' and was None; data.blur.sigma is 0.6"),
        ({"model__width": 16, "optimizer__b2": 0.9}, "model.width is 16 and was 8; optimizer.b2 is 0.9 and was 0.999"),
    ],
)
def test_every_other_change_is_refused_by_name_with_both_values(change, said):
    with pytest.raises(ValueError, match=f"^workdir 'w' was trained with another config: {said}"):
        settings.check_same(settings.as_json(config_of()), config_of(**change), "w")


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("steps", 0, "config.training.steps 0 must be 1 or more"),
        ("checkpoint_every", -1, "checkpoint_every -1 must be 1 or more"),
        ("eval_every", -1, "eval_every -1 must be 1 or more, or 0 for never"),
        ("ema_decay", 1.0, r"ema_decay 1.0 must lie in \[0, 1\)"),
    ],
)
def test_numbers_that_no_run_can_have_are_refused(name, value, said):
    with pytest.raises(ValueError, match=said):
        settings.check(config_of(**{f"training__{name}": value}))
