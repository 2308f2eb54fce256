"""Karlo in diffusers' layout and in its original layout, compared with images of diffusers' pipelines."""

import dataclasses
import json
import shutil

import numpy as np
import pytest

import unclip_jax
from tests.cascades.one_stage import sample_one
from tests.cascades.published import GOLDEN, load, open_on_one_device, row_noise_of, write_pipeline
from tests.pretrained.golden_networks import check_preset, published
from tests.pretrained.lazy_tensors import lazy_tensors
from unclip_jax.__main__ import main
from unclip_jax.kinds import kind_of
from unclip_jax.kinds.clip import text_features
from unclip_jax.models.network import parameter_shapes
from unclip_jax.models.presets import preset
from unclip_jax.pretrained import registry
from unclip_jax.pretrained.family import Source
from unclip_jax.pretrained.karlo import files as karlo_files
from unclip_jax.pretrained.rules import check
from unclip_jax.sampling import diffusion
from unclip_jax.stages.conditions import Conditions
from unclip_jax.stages.embedding_statistics import EmbeddingStatistics

UPSAMPLER = "upsampler_16_to_32"
STAGE = {"prior": "diffusion_prior", "decoder": "decoder", "super_res": UPSAMPLER}


@pytest.fixture(scope="module")
def golden():
    return load("karlo-pipeline")


@pytest.fixture(scope="module")
def pipeline(golden, tmp_path_factory):
    return write_pipeline(tmp_path_factory.mktemp("karlo"), golden[1])


@pytest.fixture
def golden_noise(monkeypatch, golden):
    """Makes all stages use the noise of the golden images."""
    images, about = golden[0]["images"], golden[1]
    rows, side = len(about["prompts"]), about["configs"]["decoder"]["sample_size"]
    embed = about["configs"]["prior"]["embedding_dim"]
    shapes = {"prior": (embed,), "decoder": (side, side, 3), "super_res": images.shape[1:]}
    stages = {stage: (shape, about["steps"][stage] + 1) for stage, shape in shapes.items()}
    monkeypatch.setattr(diffusion, "row_noise", row_noise_of(rows, stages))


def sample(cascade, about):
    return unclip_jax.text_to_image(
        cascade,
        about["prompts"],
        prior_scale=about["scales"]["prior"],
        decoder_scale=about["scales"]["decoder"],
        steps={STAGE[stage]: steps for stage, steps in about["steps"].items()},
    )


def test_images_match_diffusers(golden, pipeline, golden_noise):
    golden, about = golden
    images = sample(open_on_one_device(pipeline), about)
    assert np.mean((golden["images"] > 2 / 255) & (golden["images"] < 253 / 255)) > 0.5
    assert np.max(np.abs(images / 255.0 - golden["images"])) <= 1 / 255


def test_guided_outputs_match_diffusers_at_every_step(golden, pipeline):
    path, about = np.load(GOLDEN / "karlo-guidance.npz"), golden[1]
    cascade = open_on_one_device(pipeline)
    text = text_features(cascade.stages["clip"], about["prompts"])
    empty = text_features(cascade.stages["clip"], [""] * len(about["prompts"]))
    z = path["embedding"] * cascade.statistics["std"] + cascade.statistics["mean"]
    prior, decoder = cascade.stages["diffusion_prior"], cascade.stages["decoder"]

    def run_prior(x, t, text, _):
        return prior.module.apply({"params": prior.params}, x, t, text)

    def run_decoder(x, t, text, drop):
        return decoder.module.apply({"params": decoder.params}, x, t, z, text, drop_image=drop)

    for name, stage, run in (("prior", prior, run_prior), ("decoder", decoder, run_decoder)):
        scale, drop = stage.spec.sampling.guidance_scale, np.ones(len(z), bool)
        for x, t, expected in zip(path[f"{name}_x"], path[f"{name}_t"], path[f"{name}_answer"], strict=True):
            t = np.full(len(z), t)
            conditional, unconditional = run(x, t, text, ~drop), run(x, t, empty, drop)
            channels = x.shape[-1]  # the following channels are the variance, which is not guided
            actual, difference = np.array(conditional), conditional - unconditional
            actual[..., :channels] = unconditional[..., :channels] + scale * difference[..., :channels]
            assert np.max(np.abs(actual - expected)) <= 1e-4 * np.max(np.abs(expected)), (name, t)


def test_variations_match_diffusers(golden_noise, tmp_path):
    golden, about = load("karlo-variations")
    cascade = open_on_one_device(write_pipeline(tmp_path, about))
    assert "diffusion_prior" not in cascade.stages
    images = unclip_jax.variations(
        cascade,
        golden["image"],
        count=2,
        decoder_scale=about["scales"]["decoder"],
        steps={"decoder": about["steps"]["decoder"]},
        stop_after="decoder",
    )
    assert np.max(np.abs(images / 255.0 - (golden["small"] + 1) / 2)) <= 1 / 255
    # Upsample the golden images: the first step divides by 0.00005, which amplifies rounding errors of the decoder.
    conditions = Conditions(low_res=golden["small"])
    large = sample_one(cascade, UPSAMPLER, conditions, rows=2, steps=about["steps"]["super_res"])
    assert np.max(np.abs((large.clip(-1, 1) + 1) / 2 - golden["images"])) <= 1 / 255


def test_imported_cascade_generates_identical_images(golden, pipeline, golden_noise, tmp_path, capsys):
    golden, about = golden
    assert main(["import-weights", str(pipeline), "--out", str(tmp_path / "karlo")]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in printed[1:]] == ["clip", "diffusion_prior", "decoder", UPSAMPLER]
    cascade = open_on_one_device(tmp_path / "karlo")
    assert cascade.stages[UPSAMPLER].last_step_params is not None and cascade.stages["decoder"].last_step_params is None
    assert np.max(np.abs(sample(cascade, about) / 255.0 - golden["images"])) <= 1 / 255
    (tmp_path / "karlo" / UPSAMPLER / "params_last.safetensors").unlink()
    with pytest.raises(OSError, match="params_last.safetensors"):
        unclip_jax.load_cascade(tmp_path / "karlo")


def test_stages_have_diffusion_and_sampling_settings_of_karlo(pipeline):
    stages = open_on_one_device(pipeline).stages
    sampling = {name: stage.spec.sampling for name, stage in stages.items() if name != "clip"}
    assert {name: (one.sampler, one.steps, one.guidance_scale) for name, one in sampling.items()} == {
        "diffusion_prior": ("ddpm", 25, 4.0), "decoder": ("ddpm", 25, 8.0), UPSAMPLER: ("ddpm", 7, 1.0)
    }  # fmt: skip
    settings = {name: stage.spec.diffusion for name, stage in stages.items() if name != "clip"}
    assert {name: (one.predicts, one.variance, one.clip_x0) for name, one in settings.items()} == {
        "diffusion_prior": ("x0", "fixed_small", 5.0),
        "decoder": ("eps", "learned_range", 1.0),
        UPSAMPLER: ("eps", "fixed_small", 1.0),
    }


def test_unsupported_scheduler_and_mismatched_networks_are_rejected(pipeline, tmp_path):
    def changed(name, **change):
        folder = shutil.copytree(pipeline, tmp_path / str(len(list(tmp_path.iterdir()))))
        (path,) = (folder / name).glob("*config.json")
        path.write_text(json.dumps(json.loads(path.read_text()) | change))
        return folder

    with pytest.raises(ValueError, match="got UnCLIPScheduler with 'v_prediction' and 'learned_range'"):
        unclip_jax.load_cascade(changed("decoder_scheduler", prediction_type="v_prediction"))
    with pytest.raises(ValueError, match="must be an UnCLIPScheduler with prediction_type .*, got DDPMScheduler"):
        unclip_jax.load_cascade(changed("prior_scheduler", _class_name="DDPMScheduler"))
    with pytest.raises(ValueError, match="must have the same sizes as the first, got image_size 32 and 64"):
        unclip_jax.load_cascade(changed("super_res_last", sample_size=64))
    with pytest.raises(ValueError, match="does not use another CLIP model. Omit"):
        unclip_jax.load_cascade(pipeline, clip=pipeline)


ORIGINAL = {
    "prior-ckpt-step=01000000-of-01000000.ckpt": ("karlo-prior",),
    "decoder-ckpt-step=01000000-of-01000000.ckpt": ("karlo-decoder",),
    "improved-sr-ckpt-step=1.2M.ckpt": ("karlo-upsampler", "karlo-upsampler-last"),
    "ViT-L-14_stats.th": (),
}


@pytest.fixture
def original(tmp_path, monkeypatch):
    """Returns a folder with Karlo's original files, replaced by the published names and shapes of their tensors."""
    for name in ORIGINAL:
        (tmp_path / name).write_bytes(b"")

    def open_tensors(path):
        if path.name.endswith(".th"):
            return lazy_tensors({"0": np.arange(768.0), "1": np.ones(768)})
        tensors = [published(keys) for keys in ORIGINAL[path.name]]
        return {f"state_dict.{name}": tensor for part in tensors for name, tensor in part.items()}

    monkeypatch.setattr(karlo_files, "open_tensors", open_tensors)
    return tmp_path


def test_original_files_have_presets_of_karlo(original, pipeline):
    clip = registry.recognize(pipeline)
    model = karlo_files.open_model(Source(original, clip=dataclasses.replace(clip, stages=clip.stages[:1])))
    assert model.family == "Karlo in its own layout" and model.tokenizer == clip.tokenizer
    presets = {"diffusion_prior": "karlo_prior", "decoder": "karlo_decoder", "upsampler_64_to_256": "karlo_upsampler"}
    assert [stage.name for stage in model.stages] == ["clip", *presets]
    for stage in model.stages[1:]:
        kind = preset(presets[stage.name])[0]
        assert stage.spec.kind == kind
        check_preset(stage.spec.model, presets[stage.name])
        expected = parameter_shapes(kind_of(stage.spec).build(stage.spec, where=stage.name))
        for weights in (stage.weights, stage.last or stage.weights):
            check(weights.tensors, weights.rules, expected, what=stage.name)
    prior = model.stages[1]
    assert prior.spec.diffusion.clip_x0 == 10.0
    np.testing.assert_array_equal(EmbeddingStatistics.from_extras(prior.extras).mean, np.arange(768))


def test_original_files_that_lack_parts_are_rejected(original, pipeline, monkeypatch):
    monkeypatch.setitem(ORIGINAL, "decoder-ckpt-step=01000000-of-01000000.ckpt", ("karlo-prior",))
    with pytest.raises(ValueError, match="lacks 'model.output_blocks.0.0.in_layers.0.weight', which every Karlo"):
        unclip_jax.load_cascade(original, clip=pipeline)
    with pytest.raises(ValueError, match=r"\(Karlo's original files\) includes no CLIP model. Pass .*--clip openai/"):
        unclip_jax.load_cascade(original)
    (original / "ViT-L-14_stats.th").unlink()
    with pytest.raises(ValueError, match=r"lacks files of Karlo: ViT-L-14_stats\*"):
        unclip_jax.load_cascade(original)
