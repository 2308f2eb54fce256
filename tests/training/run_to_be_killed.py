"""A run with everything that has state: dropout, micro-batches, EMA and a data worker process.

python -m tests.training.run_to_be_killed WORKDIR DATA_DIR [STEPS]
"""

import dataclasses
import sys
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from unclip_jax.data.pipeline import Pipeline
from unclip_jax.data.spec import DataSpec
from unclip_jax.training import loop
from unclip_jax.training.spec import OptimizerSpec, RunSpec, TrainingSpec

STEPS, WIDTH = 60, 1024


@dataclasses.dataclass(frozen=True)
class Autoencode:
    """Autoencoder of 16 px images with dropout, wide enough that saving a checkpoint takes some time."""

    rows_are_independent: ClassVar[bool] = True

    def init(self, key, batch):
        first, second = jax.random.split(key)
        return {
            "hidden": {"kernel": jax.random.normal(first, (768, WIDTH)) / 28.0},
            "out": {"kernel": jax.random.normal(second, (WIDTH, 768)) / 32.0},
        }

    def loss(self, params, frozen, batch, keys, *, train=True):
        x = batch["image"].reshape(batch["image"].shape[0], -1) / 127.5 - 1.0
        hidden = jax.nn.gelu(x @ params["hidden"]["kernel"])
        if train:
            hidden = hidden * jax.random.bernoulli(keys.layers, 0.9, hidden.shape) / 0.9
        return jnp.mean((hidden @ params["out"]["kernel"] - x) ** 2), {}

    def preview(self, params, frozen, batch, keys):
        return None


def main(workdir: str, data_dir: str, steps: str = str(STEPS)) -> None:
    config = RunSpec(
        optimizer=OptimizerSpec(learning_rate=1e-3),
        training=TrainingSpec(
            steps=int(steps), global_batch=16, micro_batches=2, log_every=1, checkpoint_every=4, eval_every=0,
            preview_every=0, ema_decay=0.99,
        ),
    )  # fmt: skip
    data = DataSpec(source="captioned_shapes/tiny", dir=data_dir, image_size=16, workers=1, threads=1)
    stream = Pipeline(data, "train", global_batch=16, seed=0)
    loop.train(
        Autoencode(),
        config=config,
        frozen={"none": {"x": np.zeros(1, np.float32)}},
        extras={},
        train_data=stream,
        eval_data=None,
        workdir=workdir,
        progress=False,
    )


if __name__ == "__main__":  # worker processes import this file as well
    main(*sys.argv[1:])
