"""A small task with data and a config: a two-layer network that learns to remove noise."""

import dataclasses
import shutil
from collections.abc import Callable
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from unclip_jax import rng
from unclip_jax.sharding.mesh import make_mesh
from unclip_jax.training import loop
from unclip_jax.training.spec import OptimizerSpec, RunSpec, TrainingSpec

BATCH = 16


@dataclasses.dataclass(frozen=True)
class Denoise:
    """Task of removing noise with W2 gelu(W1 x + b1) + b2, on vectors of 48 elements.

    `frozen["scale"]["x"]` multiplies the data.

    Attributes:
      previews: Whether previews contain the images of the batch. If False, there are no previews.
      breaks: Whether a batch whose first pixel is 255 has a gradient that is not finite.
      dropout: Dropout rate after the first layer.
      jumps: Whether a batch whose first pixel is 255 adds 1000 to the loss.
    """

    rows_are_independent: ClassVar[bool] = True
    previews: bool = True
    breaks: bool = False
    dropout: float = 0.1
    jumps: bool = False

    def init(self, key, batch):
        first, second = jax.random.split(key)
        width = batch["image"][0].size
        return {
            "hidden": {"kernel": jax.random.normal(first, (width, 128)) / 7.0, "bias": jnp.zeros(128)},
            "out": {"kernel": jax.random.normal(second, (128, width)) / 11.0, "bias": jnp.zeros(width)},
        }

    def loss(self, params, frozen, batch, keys, *, train=True):
        rows = batch["image"].shape[0]
        x = (batch["image"].reshape(rows, -1) / 127.5 - 1.0) * frozen["scale"]["x"]
        noisy = x + 0.5 * rng.normal_rows(rng.named_rows(keys.rows, "noise"), x.shape[1:])
        hidden = jax.nn.gelu(noisy @ params["hidden"]["kernel"] + params["hidden"]["bias"])
        if train:
            kept = 1.0 - self.dropout
            hidden = hidden * jax.random.bernoulli(keys.layers, kept, hidden.shape) / kept
        output = hidden @ params["out"]["kernel"] + params["out"]["bias"]
        error = jnp.mean((output - x) ** 2)
        if self.breaks:  # the square root of 0 is finite, but its gradient is not
            factor = jnp.where(batch["image"][0, 0, 0, 0] == 255, 0.0, 1e-4)
            error += jnp.sqrt(factor * jnp.sum(params["out"]["kernel"] ** 2))
        if self.jumps:
            error += jnp.where(batch["image"][0, 0, 0, 0] == 255, 1000.0, 0.0)
        return error, {"output": jnp.mean(jnp.abs(output))}

    def preview(self, params, frozen, batch, keys):
        return batch["image"] if self.previews else None


@dataclasses.dataclass(frozen=True)
class Squares:
    """Images of 4 x 4 px with two colors, determined by the seed and the row number.

    Attributes:
      seed: Random seed.
      at: Called with the step of each batch before the batch is made.
      bad_steps: Steps whose batches have a first pixel of 255.
    """

    seed: int = 0
    at: Callable[[int], None] = lambda step: None
    bad_steps: tuple[int, ...] = ()

    def batches(self, start_step):
        step = start_step
        while True:
            self.at(step)
            rows = step * BATCH + np.arange(BATCH)
            colors = np.stack([np.random.default_rng((self.seed, row)).integers(0, 255, (2, 3)) for row in rows])
            image = np.repeat(np.repeat(colors[:, :, None], 4, 2), 2, 1).astype(np.uint8)
            image[0, 0, 0, 0] = 255 if step in self.bad_steps else 0
            yield {"image": image, "row": rows.astype(np.int32), "record": (100 + rows).astype(np.int32)}
            step += 1


def arguments():
    """Returns all arguments of `loop.train` except for the workdir."""
    config = RunSpec(
        optimizer=OptimizerSpec(learning_rate=3e-3, schedule="cosine", warmup_steps=3, weight_decay=0.01),
        training=TrainingSpec(
            steps=12, global_batch=BATCH, log_every=2, eval_every=6, eval_batches=2, preview_every=6, preview_count=4,
            checkpoint_every=4, max_bad_steps=3,
        ),
    )  # fmt: skip
    return {
        "task": Denoise(),
        "config": config,
        "frozen": {"scale": {"x": np.ones((), np.float32)}},
        "extras": {},
        "train_data": Squares(),
        "eval_data": Squares(seed=1),
        "mesh": make_mesh(devices=jax.devices()[:1]),
        "progress": False,
    }


@pytest.fixture
def tiny():
    """All arguments of `loop.train` except for the workdir, as a dict that the test may change."""
    return arguments()


@pytest.fixture(scope="session")
def make_tiny():
    return arguments


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """A workdir of a finished run, which tests must not change."""
    workdir = tmp_path_factory.mktemp("trained") / "workdir"
    assert loop.train(**arguments(), workdir=workdir) == 12
    return workdir


@pytest.fixture
def trained_copy(trained, tmp_path):
    """A copy of `trained` that the test may change."""
    return shutil.copytree(trained, tmp_path / "trained_copy")


@pytest.fixture
def make_task():
    return Denoise


@pytest.fixture
def make_data():
    return Squares
