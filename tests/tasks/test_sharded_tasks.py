"""Training of each task on eight devices (data 4, fsdp 2) matches training on one device."""

import functools

import jax
import numpy as np
import pytest

from tests.randomised import randomise
from tests.tasks.tiny_tasks import batch, clip_task, decoder_task, frozen, prior_task, upsampler_task
from tests.training.changes import run_spec
from unclip_jax.sharding.mesh import make_mesh
from unclip_jax.sharding.placement import place, place_batch
from unclip_jax.training.compiled_functions import compile_functions

STEPS = 30

pytestmark = pytest.mark.usefixtures("compiled_anew")


def losses(task, mesh, seed: int = 0) -> np.ndarray:
    config = run_spec(optimizer__learning_rate=1e-3, training__global_batch=8, training__seed=seed)
    data, fixed = batch(), frozen()
    functions = compile_functions(task, config=config, frozen=fixed, batch=data, mesh=mesh)
    # A newly initialized U-Net returns zeros. Random parameters make the comparison meaningful.
    state = functions.initialize(randomise(functions.shapes.params))
    fixed = place(fixed, functions.frozen_shardings)
    values = []
    for step in range(STEPS):
        rows = {**data, "row": np.arange(8 * step, 8 * step + 8, dtype=np.int32)}
        state, metrics = functions.train(state, fixed, place_batch(rows, mesh))
        values.append(float(metrics["loss"]))
    return np.array(values)


@functools.cache
def losses_of_one_device(task_of) -> np.ndarray:
    return losses(task_of(), make_mesh(devices=jax.devices()[:1]))


@pytest.mark.parametrize(
    "task_of",
    [clip_task, prior_task, *(pytest.param(unet, marks=pytest.mark.slow) for unet in (decoder_task, upsampler_task))],
)
def test_losses_on_eight_devices_match_one_device(task_of):
    one = losses_of_one_device(task_of)
    eight = losses(task_of(), make_mesh(data=4, fsdp=2, devices=jax.devices()[:8]))
    np.testing.assert_allclose(eight, one, atol=1e-5, rtol=1e-5)
    assert np.max(np.abs(np.diff(one))) > 1e-3  # the losses change


def test_losses_depend_on_seed():
    other = losses(prior_task(), make_mesh(devices=jax.devices()[:1]), seed=1)
    assert np.max(np.abs(other - losses_of_one_device(prior_task))) > 1e-3
