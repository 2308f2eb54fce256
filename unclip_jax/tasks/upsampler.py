"""An upsampler's task: from a small, corrupted picture to the same picture four times as large (unCLIP, section 2.1).

Trained on crops and run on whole pictures, which convolutions alone allow. Nothing is dropped: upsamplers are not
guided.
"""

import dataclasses
from typing import ClassVar

import jax.numpy as jnp

from unclip_jax import images
from unclip_jax.arrays import Float, Key, PyTree, UInt8
from unclip_jax.diffusion import losses
from unclip_jax.diffusion.prediction import check_predicts
from unclip_jax.diffusion.schedule import Schedule
from unclip_jax.models.upsampler import Upsampler
from unclip_jax.tasks import denoising


@dataclasses.dataclass(frozen=True, kw_only=True)
class UpsamplerOptions(denoising.DenoisingOptions):
    """Options of the task, those of `DenoisingOptions`."""


@dataclasses.dataclass(frozen=True)
class UpsamplerTask(UpsamplerOptions):
    """Trains `model`, with a mean squared error. Batch fields: `image`, `low_res`, `row`.

    Args:
      predicts: what the network answers, one of `prediction.PREDICTS`.

    All options are keyword arguments.
    """

    model: Upsampler
    schedule: Schedule
    predicts: str = "eps"
    rows_are_independent: ClassVar[bool] = True
    auxiliary: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self):
        super().__post_init__()
        check_predicts(self.predicts)

    def init(self, key: Key[""], batch: PyTree) -> PyTree:
        x = images.to_unit(batch["image"])
        return self.model.init(key, x, jnp.zeros(x.shape[0], jnp.int32), x)["params"]

    def loss(self, params: PyTree, frozen: PyTree, batch: PyTree, keys: PyTree, *, train: bool = True):
        x0 = images.to_unit(batch["image"])
        x_t, t, noise = denoising.noised(self.schedule, x0, keys.rows, logit_normal=self.logit_normal)
        rngs = {"dropout": keys.layers}
        output = self.model.apply({"params": params}, x_t, t, self._enlarged(batch), deterministic=not train, rngs=rngs)
        loss = losses.weighted_simple(
            self.schedule, output, x0=x0, t=t, noise=noise, predicts=self.predicts, snr_clip=self.snr_clip
        )
        return jnp.mean(loss), {}

    def preview(self, params: PyTree, frozen: PyTree, batch: PyTree, keys: PyTree) -> UInt8["2B H W 3"]:
        """For each row the enlarged input and, after it, what the network makes of it."""
        low_res = self._enlarged(batch)
        made = denoising.preview(
            self.schedule,
            lambda x_t, t: self.model.apply({"params": params}, x_t, t, low_res),
            keys.rows,
            low_res.shape[1:],
            predicts=self.predicts,
        )
        return jnp.stack([images.to_uint8(low_res), made], axis=1).reshape(-1, *made.shape[1:])

    def _enlarged(self, batch: PyTree) -> Float["B H W 3"]:
        return images.resize(batch["low_res"], batch["image"].shape[1])
