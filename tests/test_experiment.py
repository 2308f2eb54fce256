"""Configs: every file of configs/shapes builds its task, and a wrong field is refused by name."""

import pathlib

import jax.numpy as jnp
import pytest
from ml_collections import ConfigDict

from tests.cascades.tiny import CONFIGS as CONFIGS_OF_TINY
from tests.cascades.tiny import write_tiny_cascade
from unclip_jax import experiment, parameters
from unclip_jax.cascades import folder
from unclip_jax.cascades.embedding import load_clip
from unclip_jax.models import precision
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


def test_what_is_trained_on_is_exact_where_cascades_open_in_bfloat16(tmp_path, monkeypatch):
    source = write_tiny_cascade(tmp_path / "tiny")
    monkeypatch.setattr(folder, "compute_dtype", lambda name, platform: precision.compute_dtype(name, "gpu"))
    stored = parameters.digest_of_file(source / "clip" / folder.PARAMS)
    assert parameters.digest(load_clip(source).params) != stored
    config = ConfigDict({"frozen": {"clip": str(source)}, "training": {"dtype": "bfloat16"}})
    frozen = experiment._load_frozen_clip(config)
    assert frozen.module.dtype == jnp.bfloat16 and parameters.digest(frozen.params) == stored
    experiment._check_frozen_clip({"decoder": {"clip": stored}}, {}, source)
    config = ConfigDict({"task": {"kind": "decoder"}, "model": CONFIGS_OF_TINY["decoder"]["model"], "training": {}})
    config.training.init_from = str(source / "decoder")
    stored_decoder = parameters.digest_of_file(source / "decoder" / folder.PARAMS)
    params, begun_with = experiment._initial_params(config)
    assert parameters.digest(params) == begun_with["digest"] == stored_decoder
    experiment.package([], tmp_path / "packaged", clip=source)
    assert parameters.digest_of_file(tmp_path / "packaged" / "clip" / folder.PARAMS) == stored
