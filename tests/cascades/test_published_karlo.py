"""A Karlo in diffusers' folder, and in its own files, draws what diffusers' pipeline draws with the same noise."""

import dataclasses
import json
import shutil

import numpy as np
import pytest

import unclip_jax
from tests.cascades.one_stage import sample_one
from tests.cascades.published import GOLDEN, load, open_on_one_device, row_noise_of, write_pipeline
from tests.pretrained.held import held
from tests.pretrained.peer_networks import check_preset, published
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
def peers_noise(monkeypatch, golden):
    """Has every stage take its noise from `drawn.noise`, as the peer did."""
    images, about = golden[0]["images"], golden[1]
    rows, side = len(about["prompts"]), about["configs"]["decoder"]["sample_size"]
    embed = about["configs"]["prior"]["embedding_dim"]
    shapes = {"prior": (embed,), "decoder": (side, side, 3), "super_res": images.shape[1:]}
    stages = {stage: (shape, about["steps"][stage] + 1) for stage, shape in shapes.items()}
    monkeypatch.setattr(diffusion, "row_noise", row_noise_of(rows, stages))


def draw(cascade, about):
    return unclip_jax.text_to_image(
        cascade,
        about["prompts"],
        prior_scale=about["scales"]["prior"],
        decoder_scale=about["scales"]["decoder"],
        steps={STAGE[stage]: steps for stage, steps in about["steps"].items()},
    )


def test_pictures_are_those_of_the_peer(golden, pipeline, peers_noise):
    golden, about = golden
    pictures = draw(open_on_one_device(pipeline), about)
    assert np.mean((golden["images"] > 2 / 255) & (golden["images"] < 253 / 255)) > 0.5
    assert np.max(np.abs(pictures / 255.0 - golden["images"])) <= 1 / 255


def test_guided_answers_are_those_of_the_peer_along_its_path(golden, pipeline):
    path, about = np.load(GOLDEN / "karlo-guidance.npz"), golden[1]
    cascade = open_on_one_device(pipeline)
    text = text_features(cascade.stages["clip"], about["prompts"])
    empty = text_features(cascade.stages["clip"], [""] * len(about["prompts"]))
    z = path["embedding"] * cascade.statistics["std"] + cascade.statistics["mean"]
    prior, decoder = cascade.stages["diffusion_prior"], cascade.stages["decoder"]

    def answer_of_prior(x, t, text, _):
        return prior.module.apply({"params": prior.params}, x, t, text)

    def answer_of_decoder(x, t, text, drop):
        return decoder.module.apply({"params": decoder.params}, x, t, z, text, drop_image=drop)

    for name, stage, answer in (("prior", prior, answer_of_prior), ("decoder", decoder, answer_of_decoder)):
        scale, drop = stage.spec.sampling.guidance_scale, np.ones(len(z), bool)
        for x, t, right in zip(path[f"{name}_x"], path[f"{name}_t"], path[f"{name}_answer"], strict=True):
            t = np.full(len(z), t)
            guided, unguided = answer(x, t, text, ~drop), answer(x, t, empty, drop)
            channels = x.shape[-1]  # behind them the variance, which is not guided
            found = np.array(guided)
            found[..., :channels] = unguided[..., :channels] + scale * (guided - unguided)[..., :channels]
            assert np.max(np.abs(found - right)) <= 1e-4 * np.max(np.abs(right)), (name, t)


def test_variations_are_those_of_the_peer(peers_noise, tmp_path):
    golden, about = load("karlo-variations")
    cascade = open_on_one_device(write_pipeline(tmp_path, about))
    assert "diffusion_prior" not in cascade.stages
    pictures = unclip_jax.variations(
        cascade,
        golden["image"],
        count=2,
        decoder_scale=about["scales"]["decoder"],
        steps={"decoder": about["steps"]["decoder"]},
        stop_after="decoder",
    )
    assert np.max(np.abs(pictures / 255.0 - (golden["small"] + 1) / 2)) <= 1 / 255
    # From there on, so that what rounding has left does not decide on which side of 0 the first step, which divides by
    # 0.00005, finds a number.
    conditions = Conditions(low_res=golden["small"])
    large = sample_one(cascade, UPSAMPLER, conditions, rows=2, steps=about["steps"]["super_res"])
    assert np.max(np.abs((large.clip(-1, 1) + 1) / 2 - golden["images"])) <= 1 / 255


def test_an_imported_folder_draws_the_same(golden, pipeline, peers_noise, tmp_path, capsys):
    golden, about = golden
    assert main(["import-weights", str(pipeline), "--out", str(tmp_path / "karlo")]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in printed[1:]] == ["clip", "diffusion_prior", "decoder", UPSAMPLER]
    cascade = open_on_one_device(tmp_path / "karlo")
    assert cascade.stages[UPSAMPLER].last_step_params is not None and cascade.stages["decoder"].last_step_params is None
    assert np.max(np.abs(draw(cascade, about) / 255.0 - golden["images"])) <= 1 / 255
    (tmp_path / "karlo" / UPSAMPLER / "params_last.safetensors").unlink()
    with pytest.raises(OSError, match="params_last.safetensors"):
        unclip_jax.load_cascade(tmp_path / "karlo")


def test_every_stage_is_sampled_as_karlo_does(pipeline):
    stages = open_on_one_device(pipeline).stages
    settings = {name: stage.spec.sampling for name, stage in stages.items() if name != "clip"}
    assert {name: (set.sampler, set.steps, set.guidance_scale) for name, set in settings.items()} == {
        "diffusion_prior": ("ddpm", 25, 4.0), "decoder": ("ddpm", 25, 8.0), UPSAMPLER: ("ddpm", 7, 1.0)
    }  # fmt: skip
    said = {name: stage.spec.diffusion for name, stage in stages.items() if name != "clip"}
    assert {name: (about.predicts, about.variance, about.clip_x0) for name, about in said.items()} == {
        "diffusion_prior": ("x0", "fixed_small", 5.0),
        "decoder": ("eps", "learned_range", 1.0),
        UPSAMPLER: ("eps", "fixed_small", 1.0),
    }


def test_another_scheduler_or_another_last_network_is_refused(pipeline, tmp_path):
    def changed(name, **change):
        folder = shutil.copytree(pipeline, tmp_path / str(len(list(tmp_path.iterdir()))))
        (path,) = (folder / name).glob("*config.json")
        path.write_text(json.dumps(json.loads(path.read_text()) | change))
        return folder

    with pytest.raises(ValueError, match="got UnCLIPScheduler with 'v_prediction' and 'learned_range'"):
        unclip_jax.load_cascade(changed("decoder_scheduler", prediction_type="v_prediction"))
    with pytest.raises(ValueError, match="must be an UnCLIPScheduler with prediction_type .*, got DDPMScheduler"):
        unclip_jax.load_cascade(changed("prior_scheduler", _class_name="DDPMScheduler"))
    with pytest.raises(ValueError, match=r"the network of the last step differs .*: image_size 32 and 64"):
        unclip_jax.load_cascade(changed("super_res_last", sample_size=64))
    with pytest.raises(ValueError, match="needs no other CLIP. Omit"):
        unclip_jax.load_cascade(pipeline, clip=pipeline)


ORIGINAL = {
    "prior-ckpt-step=01000000-of-01000000.ckpt": ("karlo-prior",),
    "decoder-ckpt-step=01000000-of-01000000.ckpt": ("karlo-decoder",),
    "improved-sr-ckpt-step=1.2M.ckpt": ("karlo-upsampler", "karlo-upsampler-last"),
    "ViT-L-14_stats.th": (),
}


@pytest.fixture
def original(tmp_path, monkeypatch):
    """A folder of Karlo's own files, their tensors known by names and shapes alone."""
    for name in ORIGINAL:
        (tmp_path / name).write_bytes(b"")

    def open_tensors(path):
        if path.name.endswith(".th"):
            return held({"0": np.arange(768.0), "1": np.ones(768)})
        tensors = [published(keys) for keys in ORIGINAL[path.name]]
        return {f"state_dict.{name}": tensor for part in tensors for name, tensor in part.items()}

    monkeypatch.setattr(karlo_files, "open_tensors", open_tensors)
    return tmp_path


def test_karlos_own_files_are_the_published_networks(original, pipeline):
    clip = registry.recognize(pipeline)
    found = karlo_files.open_model(Source(original, clip=dataclasses.replace(clip, stages=clip.stages[:1])))
    assert found.family == "Karlo in its own layout" and found.tokenizer == clip.tokenizer
    presets = {"diffusion_prior": "karlo_prior", "decoder": "karlo_decoder", "upsampler_64_to_256": "karlo_upsampler"}
    assert [stage.name for stage in found.stages] == ["clip", *presets]
    for stage in found.stages[1:]:
        kind = preset(presets[stage.name])[0]
        assert stage.spec.kind == kind
        check_preset(stage.spec.model, presets[stage.name])
        expected = parameter_shapes(kind_of(stage.spec).build(stage.spec, where=stage.name))
        for weights in (stage.weights, stage.last or stage.weights):
            check(weights.tensors, weights.rules, expected, what=stage.name)
    prior = found.stages[1]
    assert prior.spec.diffusion.clip_x0 == 10.0
    np.testing.assert_array_equal(EmbeddingStatistics.from_extras(prior.extras).mean, np.arange(768))


def test_what_karlos_own_files_lack_is_asked_for(original, pipeline, monkeypatch):
    monkeypatch.setitem(ORIGINAL, "decoder-ckpt-step=01000000-of-01000000.ckpt", ("karlo-prior",))
    with pytest.raises(ValueError, match="lacks 'model.output_blocks.0.0.in_layers.0.weight', which every Karlo"):
        unclip_jax.load_cascade(original, clip=pipeline)
    with pytest.raises(ValueError, match=r"\(Karlo's own files\) includes no CLIP. Pass .*--clip openai/"):
        unclip_jax.load_cascade(original)
    (original / "ViT-L-14_stats.th").unlink()
    with pytest.raises(ValueError, match=r"lacks ViT-L-14_stats\* of Karlo's files"):
        unclip_jax.load_cascade(original)
