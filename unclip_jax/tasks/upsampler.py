"""Training of the diffusion upsamplers (unCLIP; Ramesh et al. 2022, arXiv 2204.06125, Section 2.1).

The network denoises an image given a corrupted low-resolution copy. It is fully convolutional and can therefore train
on crops and sample full images. No condition is dropped, because upsamplers are sampled without guidance.
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
    """Options of the upsampler task, which are those of `DenoisingOptions`."""


@dataclasses.dataclass(frozen=True)
class UpsamplerTask(UpsamplerOptions):
    """Training task of an upsampler, whose loss is the mean squared error.

    Batch fields: `image`, `low_res`, `row`. Options are keyword arguments.

    Attributes:
      model: The network.
      schedule: The noise schedule.
      predicts: Parameterization of the output, one of `prediction.PREDICTS`.
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
        """Initializes the network."""
        x = images.to_unit(batch["image"])
        return self.model.init(key, x, jnp.zeros(x.shape[0], jnp.int32), x)["params"]

    def loss(self, params: PyTree, frozen: PyTree, batch: PyTree, keys: PyTree, *, train: bool = True):
        """Computes the mean loss (see `training.task.Task`)."""
        x0 = images.to_unit(batch["image"])
        x_t, t, noise = denoising.noised(self.schedule, x0, keys.rows, logit_normal=self.logit_normal)
        rngs = {"dropout": keys.layers}
        low_res = self._resized_low_res(batch)
        output = self.model.apply({"params": params}, x_t, t, low_res, deterministic=not train, rngs=rngs)
        loss = losses.weighted_simple(
            self.schedule, output, x0=x0, t=t, noise=noise, predicts=self.predicts, snr_clip=self.snr_clip
        )
        return jnp.mean(loss), {}

    def preview(self, params: PyTree, frozen: PyTree, batch: PyTree, keys: PyTree) -> UInt8["2B H W 3"]:
        """Returns for each row the resized low-resolution image, followed by the generated image."""
        low_res = self._resized_low_res(batch)
        generated = denoising.preview(
            self.schedule,
            lambda x_t, t: self.model.apply({"params": params}, x_t, t, low_res),
            keys.rows,
            low_res.shape[1:],
            predicts=self.predicts,
        )
        return jnp.stack([images.to_uint8(low_res), generated], axis=1).reshape(-1, *generated.shape[1:])

    def _resized_low_res(self, batch: PyTree) -> Float["B H W 3"]:
        return images.resize(batch["low_res"], batch["image"].shape[1])
