"""Training on eight devices (data 4, fsdp 2) matches one device, with half of the state per device."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from unclip_jax import rng
from unclip_jax.sharding.mesh import make_mesh
from unclip_jax.sharding.placement import place, place_batch
from unclip_jax.training.compiled_functions import compile_functions
from unclip_jax.training.spec import OptimizerSpec, RunSpec, TrainingSpec

STEPS, BATCH = 30, 16

pytestmark = pytest.mark.usefixtures("compiled_anew")


class Network(nn.Module):
    """Small network of the same layers as the real ones: convolutions, group norm and a wide dense layer."""

    @nn.compact
    def __call__(self, x):
        h = nn.Conv(32, (3, 3))(x)
        h = nn.Conv(64, (3, 3), strides=2)(nn.silu(h))
        h = nn.silu(nn.GroupNorm(8)(h))
        h = nn.Dense(64)(nn.silu(nn.Dense(256)(h)))
        return nn.Conv(12, (3, 3))(h)


@dataclasses.dataclass(frozen=True)
class Restore:
    """Task of denoising images whose colors are mapped by a frozen kernel.

    The output has 2 x 2 pixels folded into channels.
    """

    rows_are_independent: ClassVar[bool] = True

    def init(self, key, batch):
        return Network().init(key, jnp.zeros(batch["image"].shape))["params"]

    def loss(self, params, frozen, batch, keys, *, train=True):
        x = (batch["image"] / 127.5 - 1.0) @ frozen["colors"]["kernel"]
        noisy = x + 0.3 * rng.normal_rows(keys.rows, x.shape[1:])
        rows, side = x.shape[0], x.shape[1] // 2
        folded = x.reshape(rows, side, 2, side, 2, 3).transpose(0, 1, 3, 2, 4, 5).reshape(rows, side, side, 12)
        return jnp.mean((Network().apply({"params": params}, noisy) - folded) ** 2), {}

    def preview(self, params, frozen, batch, keys):
        return None


def train(devices, seed=0, **mesh):
    config = RunSpec(
        optimizer=OptimizerSpec(learning_rate=1e-3, weight_decay=0.01),
        training=TrainingSpec(steps=STEPS, global_batch=BATCH, seed=seed),
    )
    mesh = make_mesh(**mesh, devices=devices)
    generator = np.random.default_rng(0)
    colors = generator.integers(0, 256, (STEPS, BATCH, 1, 1, 3))
    images = colors + generator.integers(-20, 20, (STEPS, BATCH, 8, 8, 3))
    batches = [
        {"image": np.clip(image, 0, 255).astype(np.uint8), "row": (step * BATCH + np.arange(BATCH)).astype(np.int32)}
        for step, image in enumerate(images)
    ]
    frozen = {"colors": {"kernel": np.eye(3, dtype=np.float32)[::-1]}}
    functions = compile_functions(Restore(), config=config, frozen=frozen, batch=batches[0], mesh=mesh)
    state, frozen, losses = functions.initialize(), place(frozen, functions.frozen_shardings), []
    for batch in batches:
        state, metrics = functions.train(state, frozen, place_batch(batch, mesh))
        losses.append(float(metrics["loss"]))
    return np.array(losses), state


@pytest.fixture(scope="module")
def one():
    return train(jax.devices()[:1])[0]


@pytest.fixture(scope="module")
def eight():
    return train(jax.devices(), data=4, fsdp=2)


def test_losses_on_eight_devices_match_one_device(one, eight):
    np.testing.assert_allclose(eight[0], one, atol=1e-5, rtol=0)
    assert one[-1] < 0.6 * one[0]  # the loss decreases, so it depends on all previous updates


def test_losses_depend_on_seed(one):
    assert np.max(np.abs(train(jax.devices()[:1], seed=1)[0] - one)) > 1e-3


def test_each_device_holds_at_most_60_percent_of_params_and_optimizer_state(eight):
    leaves = jax.tree.leaves((eight[1].params, eight[1].opt_state))
    held = {device: 0 for device in jax.devices()}
    for leaf in leaves:
        for shard in leaf.addressable_shards:
            held[shard.device] += shard.data.nbytes
    assert max(held.values()) <= 0.6 * sum(leaf.nbytes for leaf in leaves)
    assert min(held.values()) > 0
