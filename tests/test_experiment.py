"""Configs: every file of configs/shapes builds its task, and a wrong field is refused by name."""

import pathlib

import pytest

from unclip_jax import experiment
from unclip_jax.models.registry import network

CONFIGS = sorted((pathlib.Path(__file__).parents[1] / "configs/shapes").glob("*.py"))


def test_every_stage_has_a_config():
    stages = {experiment.load_config(path).task.stage for path in CONFIGS}
    assert stages == {"clip", "diffusion_prior", "decoder", "upsampler_16_to_64", "upsampler_64_to_256"}


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_config_names_its_stage_and_builds_its_network(path):
    config = experiment.load_config(path)
    assert config.task.stage == path.stem
    network(config.task.kind, config.model.to_dict())


def test_override_sets_a_leaf_in_its_own_type():
    overrides = ["optimizer.learning_rate=1", "training.steps=7", "data.dir=/data", "model.channel_mult=(1, 2)"]
    config = experiment.load_config(CONFIGS[1], overrides)
    assert (config.optimizer.learning_rate, config.training.steps, config.data.dir) == (1.0, 7, "/data")
    assert config.model.channel_mult == (1, 2) and isinstance(config.optimizer.learning_rate, float)


@pytest.mark.parametrize(
    "override, message",
    [
        ("optimizer.learning_rat=1", r"config.optimizer has no field 'learning_rat'; known: .*learning_rate"),
        ("optimiser.b1=1", r"config has no field 'optimiser'; known: .*optimizer"),
        ("training.steps=many", r"training.steps=many: a int is wanted, such as"),
        ("training.steps", r"needs a value"),
        ("training.steps.x=1", r"config.training.steps has no field 'x'"),
        ("data.flip=1", r"data.flip=1: a bool is wanted"),
    ],
)
def test_wrong_override_is_refused_in_one_line(override, message):
    with pytest.raises(ValueError, match=message) as error:
        experiment.load_config(CONFIGS[0], [override])
    assert "\n" not in str(error.value)


def test_missing_config_and_config_without_function_are_refused(tmp_path):
    with pytest.raises(ValueError, match="does not exist"):
        experiment.load_config(tmp_path / "none.py")
    (tmp_path / "empty.py").write_text("x = 1\n")
    with pytest.raises(ValueError, match="has no function get_config"):
        experiment.load_config(tmp_path / "empty.py")


def test_unknown_kind_and_field_of_a_network_name_the_known_ones():
    with pytest.raises(ValueError, match="kind 'vae' is unknown; known: clip"):
        network("vae", {})
    with pytest.raises(ValueError, match="no field chanels; known: .*channels"):
        network("upsampler", {"chanels": 32})
