"""Comparison of single steps with diffusers' UnCLIPScheduler and guided-diffusion's respaced diffusion."""

import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.golden.drawn import noise
from unclip_jax.diffusion import schedule as schedules
from unclip_jax.diffusion.denoiser import denoiser_from_network
from unclip_jax.diffusion.samplers.ddim import DDIM
from unclip_jax.diffusion.samplers.ddpm import Ancestral
from unclip_jax.diffusion.thresholding import clipped

GOLDEN = np.load(pathlib.Path(__file__).parents[1] / "golden" / "scheduler-steps.npz")
CASES = list(enumerate(json.loads(str(GOLDEN["about"]))))
TOLERANCE = 1e-5


def one_step(about):
    """Returns a function (x_t, network output, noise, t, t_next) -> x at t_next, compiled once per path."""
    schedule = schedules.by_name(about["schedule"], 1000)
    sampler = DDIM(schedule, about["eta"]) if about["sampler"] == "ddim" else Ancestral(schedule, about["variance"])

    @jax.jit
    def step(x, output, drawn, t, t_next):
        denoiser = denoiser_from_network(lambda x, t: output, schedule=schedule, predicts=about["predicts"])
        denoiser = clipped(denoiser, schedule=schedule, limit=about["clip_x0"])
        return sampler.step(denoiser, sampler.init(x), t, t_next, lambda *_: drawn).x

    return step


@pytest.mark.parametrize(("number", "about"), CASES, ids=[f"{about['peer'].split()[-1]}-{n}" for n, about in CASES])
def test_every_step_of_a_path_matches_the_reference(number, about):
    step, expected = one_step(about), GOLDEN[f"answers_{number}"]
    channels = 6 if about["variance"] == "learned_range" else 3
    path = about["path"]
    for index, (t, t_next) in enumerate(zip(path[:-1], path[1:], strict=True)):
        shape = expected[index].shape
        inputs = noise("x", index, shape), noise("answer", index, (*shape[:-1], channels)), noise("noise", index, shape)
        actual = step(*inputs, jnp.int32(t), jnp.int32(t_next))
        # guided-diffusion's DDIM stores alpha_bar in float32, which loses three digits of 1 - alpha_bar_0.
        tolerance = 10 * TOLERANCE if about["sampler"] == "ddim" and t_next == 0 else TOLERANCE
        assert np.max(np.abs(actual - expected[index])) <= tolerance * np.max(np.abs(expected[index])), (t, t_next)
