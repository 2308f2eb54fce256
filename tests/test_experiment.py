"""Configs: the files in configs/shapes, overrides, deprecated names and validation."""

import dataclasses
import pathlib
import warnings

import jax.numpy as jnp
import pytest
from ml_collections import ConfigDict

from tests.cascades.tiny import CONFIGS as TINY_CONFIGS
from tests.cascades.tiny import write_tiny_cascade
from unclip_jax import experiment, parameters
from unclip_jax.cascades import folder
from unclip_jax.cascades.embedding import load_clip
from unclip_jax.experiment.config import typed
from unclip_jax.experiment.encoders import load_encoders
from unclip_jax.experiment.package import _encoder_digests
from unclip_jax.experiment.spec import parse, parse_stored
from unclip_jax.experiment.train import _start
from unclip_jax.models import precision
from unclip_jax.training.spec import check_same

CONFIGS = sorted((pathlib.Path(__file__).parents[1] / "configs/shapes").glob("*.py"))
DECODER, UPSAMPLER = (next(path for path in CONFIGS if path.stem == name) for name in ("decoder", "upsampler_16_to_64"))


def test_shapes_configs_cover_all_stages():
    stages = {experiment.load_config(path).task.stage for path in CONFIGS}
    assert stages == {"clip", "diffusion_prior", "decoder", "upsampler_16_to_64", "upsampler_64_to_256"}


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_shapes_config_has_stage_name_and_builds_network(path):
    config = experiment.load_config(path)
    assert config.task.stage == path.stem
    typed(config).build(jnp.float32)


def test_override_sets_field_with_its_type():
    overrides = ["optimizer.learning_rate=1", "training.steps=7", "data.dir=/data", "model.channel_mult=(1, 2)"]
    config = experiment.load_config(CONFIGS[1], overrides)
    assert (config.optimizer.learning_rate, config.training.steps, config.data.dir) == (1.0, 7, "/data")
    assert config.model.channel_mult == (1, 2) and isinstance(config.optimizer.learning_rate, float)


def test_override_is_parsed_by_declared_type_of_field():
    overrides = ["optimizer.skip_norm=3", "data.dir=7", "data.blur.sigma=1", "sampling.steps=9", "task.snr_clip=[0, 5]"]
    config = typed(experiment.load_config(UPSAMPLER, overrides))
    assert config.optimizer.skip_norm == 3.0 and config.data.dir == "7" and config.data.blur.sigma == 1.0
    assert config.stage.sampling.steps == 9 and config.options.snr_clip == (0.0, 5.0)
    assert typed(experiment.load_config(UPSAMPLER, ["data.blur=None"])).data.blur is None


@pytest.mark.parametrize(
    "override, message",
    [
        ("optimizer.learning_rat=1", r"config.optimizer has no field 'learning_rat'. Available: .*learning_rate"),
        ("optimiser.b1=1", r"config has no field 'optimiser'. Available: .*optimizer"),
        ("training.steps=many", r"--config.training.steps must be an integer, got 'many'"),
        ("training.steps", r"needs a value"),
        ("training.steps.x=1", r"config.training.steps has no field 'x'. Available: none"),
        ("data.flip=1", r"--config.data.flip must be True or False, got 1"),
        ("model=3", r"--config.model is a section"),
        ("encoders.text=shapes", r"config.encoders has no role text. Available: none"),
        ("task.kind=vae", r"Unknown stage kind 'vae' in config.task.kind. Available: clip"),
        ("task.kind=glide", r"'glide' can be loaded and sampled, but not trained. Trainable: clip, diffusion_prior"),
        ("task.stage=a/b", r"config.task.stage: name of a stage must consist of letters"),
        ("diffusion.steps=3", r"config.diffusion.steps has no effect on kind 'clip'"),
        ("sampling.eta=0.5", r"config.sampling.eta has no effect on kind 'clip'"),
    ],
)
def test_invalid_override_is_rejected_in_one_line(override, message):
    with pytest.raises(ValueError, match=message) as error:
        experiment.load_config(CONFIGS[0], [override])
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("section", ["task", "model", "encoders", "diffusion", "sampling", "data", "optimizer", "mesh"])
def test_unknown_field_in_config_file_is_rejected(tmp_path, section):
    (tmp_path / "config.py").write_text(
        f"import runpy\ndef get_config():\n    config = runpy.run_path({str(DECODER)!r})['get_config']()\n"
        f"    config.{section}.unheard = 'of'\n    return config\n"
    )
    with pytest.raises(ValueError, match=rf"config.{section} has no (field|role) unheard. Available: "):
        experiment.load_config(tmp_path / "config.py")


def test_missing_config_file_and_file_without_get_config_are_rejected(tmp_path):
    with pytest.raises(ValueError, match="does not exist"):
        experiment.load_config(tmp_path / "none.py")
    (tmp_path / "empty.py").write_text("x = 1\n")
    with pytest.raises(ValueError, match="file with get_config.., but .* has no such function"):
        experiment.load_config(tmp_path / "empty.py")


def test_unknown_kind_and_network_field_are_rejected_with_available_ones():
    with pytest.raises(ValueError, match="kind 'vae' in config.task.kind. Available: clip"):
        parse({"task": {"kind": "vae", "stage": "x"}})
    with pytest.raises(ValueError, match="no field chanels. Available: .*channels"):
        parse({"task": {"kind": "upsampler", "stage": "x"}, "model": {"chanels": 32}})


@pytest.mark.parametrize(
    ("path", "override", "message"),
    [
        (UPSAMPLER, "model.image_size=32", "config.model.image_size must be config.data.image_size, .* 64, got 32"),
        (UPSAMPLER, "task.low_res_size=8", "config.task.low_res_size must be config.data.low_res_size, .* 16, got 8"),
        (DECODER, "data.clip_size=None", "config.data.clip_size must be set: kind 'decoder' is trained on clip_image"),
        (DECODER, "data.captions=False", "config.data.captions must be set: kind 'decoder' is trained on tokens"),
        (DECODER, "encoders.clip=None", "config lacks encoders.clip, which a stage of kind 'decoder' needs"),
    ],
)
def test_data_and_encoders_that_do_not_match_network_are_rejected(path, override, message):
    with pytest.raises(ValueError, match=message):
        experiment.load_config(path, [override])


@pytest.mark.parametrize("name", ["embed_dim", "text_width"])
def test_widths_of_another_encoder_are_rejected_before_data_is_opened(tmp_path, name):
    config = experiment.load_config(DECODER, [f"model.{name}=64", "data.source=folder", "data.dir=nowhere"])
    with pytest.raises(ValueError, match=rf"config.model.{name} must be 128, as in config.encoders.clip \('shapes'\)"):
        experiment.train_stage(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_deprecated_field_names_are_accepted_with_warning(tmp_path):
    (tmp_path / "config.py").write_text(
        "from unclip_jax.experiment import default_config\ndef get_config():\n    config = default_config()\n"
        "    config.task = {'kind': 'decoder', 'stage': 'mine', 'colour_jitter': 0.25}\n"
        "    config.model = {'image_size': 16, 'channels': 16, 'channel_mult': (1,), 'res_blocks': 1,\n"
        "                    'embed_dim': 128, 'attention_resolutions': (), 'head_channels': 8, 'text_width': 128,\n"
        "                    'context_width': 8}\n"
        "    config.frozen.clip = 'shapes'\n    config.sampling.scale = 3.0\n    config.data.captions = True\n"
        "    config.data.image_size, config.data.clip_size = 16, 64\n    return config\n"
    )
    with pytest.warns(DeprecationWarning) as records:
        config = experiment.load_config(tmp_path / "config.py", ["data.moments=True", "sampling.scale=4.0"])
    assert config.encoders.clip == "shapes" and config.sampling.guidance_scale == 4.0
    assert config.task.color_jitter == 0.25 and config.data.scene_targets is True
    messages = {str(warning.message) for warning in records}
    assert messages == {
        "config.frozen.clip is now called config.encoders.clip.",
        "config.sampling.scale is now called config.sampling.guidance_scale.",
        "config.task.colour_jitter is now called config.task.color_jitter.",
        "config.data.moments is now called config.data.scene_targets.",
    }


def test_check_same_accepts_stored_config_with_deprecated_names_and_missing_fields():
    config = typed(experiment.load_config(DECODER))
    old = config.to_json()
    old["frozen"] = {"clip": "/elsewhere"}
    old["sampling"] = {"sampler": "ddim", "steps": 12, "scale": 1.5}
    old["task"]["colour_jitter"] = old["task"].pop("color_jitter")
    old["data"]["moments"] = old["data"].pop("scene_targets")
    old["data"]["wrong_captions"] = old["data"].pop("negative_captions")
    del old["encoders"], old["task"]["low_res_size"], old["task"]["mask_channels"], old["diffusion"]["clip_x0"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_same(config, old, "w")
    old["task"]["colour_jitter"] = 0.75
    with pytest.raises(ValueError, match="config: task.color_jitter is 0.5 and was 0.75. "):
        check_same(config, old, "w")
    other = dataclasses.replace(config, encoders={"clip": "elsewhere"})
    check_same(other, config.to_json(), "w")


def test_frozen_and_initial_params_are_float32_when_cascades_load_in_bfloat16(tmp_path, monkeypatch):
    source = write_tiny_cascade(tmp_path / "tiny")
    monkeypatch.setattr(folder, "compute_dtype", lambda name, platform: precision.compute_dtype(name, "gpu"))
    stored = parameters.digest_of_file(source / "clip" / folder.PARAMS)
    assert parameters.digest(load_clip(source).params) != stored
    config = experiment.default_config()
    config.task = ConfigDict({"kind": "decoder", "stage": "decoder"})
    config.model = ConfigDict(TINY_CONFIGS["decoder"]["model"])
    config.encoders.clip, config.training.init_from = str(source), str(source / "decoder")
    config.training.dtype = "bfloat16"
    config.data.image_size, config.data.clip_size, config.data.captions = config.model.image_size, 16, True
    config = typed(config)
    frozen = load_encoders(config)["clip"]
    assert frozen.module.dtype == jnp.bfloat16 and parameters.digest(frozen.params) == stored
    stored_decoder = parameters.digest_of_file(source / "decoder" / folder.PARAMS)
    assert _encoder_digests({}, source) == {"clip": stored}
    start = _start(config)
    params, provenance = start.params, start.source
    assert parameters.digest(params) == provenance["digest"] == stored_decoder
    experiment.package([], tmp_path / "packaged", clip=source)
    assert parameters.digest_of_file(tmp_path / "packaged" / "clip" / folder.PARAMS) == stored


def test_extras_are_computed_from_at_most_one_epoch(tmp_path):
    """Beyond one epoch, some records of a small dataset would count more often than others."""
    import itertools
    import types

    from unclip_jax.experiment.assemble import _extras

    class Data:
        def __len__(self):
            return 5

        def batches(self, start):
            return itertools.count(start)

    config = types.SimpleNamespace(
        stage_kind=types.SimpleNamespace(fit_extras=lambda parts, batches: {"seen": list(batches)}),
        training=types.SimpleNamespace(global_batch=2),
    )
    assert _extras(config, None, Data(), tmp_path) == {"seen": [0, 1, 2]}


def test_encoder_is_required_and_can_be_changed():
    path = CONFIGS[0].parent / "diffusion_prior.py"
    with pytest.raises(ValueError, match="^config lacks encoders.clip, which a stage of kind 'diffusion_prior' needs"):
        experiment.load_config(path, ["encoders.clip=None"])
    config = experiment.load_config(path)
    config.encoders.clip = "runs/shapes"
    assert typed(config).encoders == {"clip": "runs/shapes"}


def test_parse_stored_ignores_encoder_that_kind_does_not_use():
    """Earlier versions accepted frozen.clip for all kinds and ignored it if the kind did not use it."""
    stored = experiment.load_config(CONFIGS[0].parent / "upsampler_16_to_64.py").to_dict()
    stored["frozen"] = {"clip": "shapes"}
    assert parse_stored(stored).encoders == {}
    with pytest.raises(ValueError, match="config.encoders has no role clip. Available: none"):
        typed({**stored, "encoders": {"clip": "shapes"}, "frozen": {}})


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("training.seed=-1", "config.training.seed must be from 0 to 4294967295, got -1."),
        ("training.eval_batches=0", "config.training.eval_batches must be at least 1, got 0."),
        ("training.preview_count=-3", "config.training.preview_count must be at least 1, got -3."),
    ],
)
def test_out_of_range_training_settings_are_rejected(override, message):
    with pytest.raises(ValueError) as error:
        experiment.load_config(CONFIGS[0], [override])
    assert str(error.value) == message


def test_init_from_can_be_unset():
    assert experiment.load_config(CONFIGS[0], ["training.init_from=None"]).training.init_from is None
