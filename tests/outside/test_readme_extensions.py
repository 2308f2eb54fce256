"""The examples in unclip_jax/README.md that extend the package."""

import numpy as np
import pytest

import unclip_jax
from tests.randomised import randomise
from tests.readme_examples import examples, run
from unclip_jax import experiment, parameters
from unclip_jax.__main__ import main
from unclip_jax.cascades.class_to_image import class_to_image
from unclip_jax.cascades.text_to_image import upsample
from unclip_jax.diffusion.forward_process import q_sample
from unclip_jax.experiment.config import typed
from unclip_jax.models.network import parameter_shapes
from unclip_jax.models.unet import UNet

pytestmark = pytest.mark.usefixtures("one_device", "tables")

EXAMPLES = examples("unclip_jax/README.md")


@pytest.mark.slow
def test_kind_is_trained_packaged_and_sampled(tmp_path):
    run(EXAMPLES["Add a stage kind"])
    sections = {
        "task": {"kind": "tiny_upsampler", "stage": "up"},
        "model": {"image_size": 64, "channels": 8},
        "data": {"source": "captioned_shapes/tiny", "low_res_size": 16},
        "sampling": {"steps": 2},
        "training": {"steps": 2, "global_batch": 2, "eval_every": 0, "preview_every": 0},
    }
    assert experiment.train_stage(typed(sections), tmp_path / "run", progress=False) == 2
    experiment.package([tmp_path / "run"], tmp_path / "made")
    cascade = unclip_jax.load_cascade(tmp_path / "made")
    assert upsample(cascade, np.zeros((1, 16, 16, 3), np.float32), size=64).shape == (1, 64, 64, 3)


@pytest.mark.slow
def test_sampler_adds_new_noise_to_the_prediction():
    names = run(EXAMPLES["Add a sampler"])
    assert names["images"].shape == (1, 16, 16, 3)
    schedule = names["cascade"].stages["decoder"].spec.diffusion.noise_schedule()
    x0, noise = np.full((1, 2), 0.25, np.float32), np.ones((1, 2), np.float32)
    sampler = names["Consistency"](schedule)
    prediction = type("Prediction", (), {"x0": x0, "replace": lambda self, x0: self})
    state = sampler.step(lambda x, t: prediction(), sampler.init(noise), 900, 400, lambda *_: noise)
    np.testing.assert_allclose(state.x, q_sample(schedule, x0, 400, noise))
    clean = sampler.step(lambda x, t: prediction(), state, 400, -1, lambda *_: noise)
    np.testing.assert_allclose(clean.x, x0, rtol=1e-6)


@pytest.mark.slow
def test_guidance_transform_moves_the_brightness_of_each_image():
    names = run(EXAMPLES["Add a guidance transform"])
    found, expected = names["images"].mean(axis=(1, 2, 3)), 127.5 * (1.0 + names["brightness"])
    np.testing.assert_allclose(found, expected, atol=2)


@pytest.mark.slow
def test_suite_runs_on_the_command_line(capsys):
    run(EXAMPLES["Add a suite"])
    assert main(["evaluate", "--suite", "brightness"]) == 0
    (line,) = (line for line in capsys.readouterr().out.splitlines() if line.startswith("| brightness "))
    light, _, dark = line.split("|")[2].split()
    assert float(light) > 0.7 and float(dark) < 0.3


def test_weight_family_opens_a_file(tmp_path):
    run(EXAMPLES["Add a weight family"])
    fields = {"image_size": 8, "channels": 8, "channel_mult": (1,), "res_blocks": 1, "groups": 4}
    params = randomise(parameter_shapes(UNet(**fields)))
    axes = {1: (0,), 2: (1, 0), 4: (3, 2, 0, 1)}
    flat = parameters.flatten(params)
    np.savez(tmp_path / "model.npz", **{name.replace("/", "."): x.transpose(axes[x.ndim]) for name, x in flat.items()})
    cascade = unclip_jax.load_cascade(tmp_path / "model.npz")
    assert parameters.digest(cascade.stages["base"].params) == parameters.digest(params)
    assert class_to_image(cascade).shape == (1, 8, 8, 3)
