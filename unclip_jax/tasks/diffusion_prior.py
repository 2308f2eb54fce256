"""Training of the diffusion prior (unCLIP; Ramesh et al. 2022, arXiv 2204.06125, Section 2.2).

The network receives a noisy image embedding z_i^(t), the step t and CLIP's text features y of the caption, and predicts
the clean embedding z_i:

    L = E |f(z_i^(t), t, y) - z_i|^2

Embeddings are standardized per dimension, (z_i - mean) / std, as in Karlo. For classifier-free guidance, the empty
caption replaces the caption of a fraction of the rows.
"""

import dataclasses
from typing import ClassVar

import jax.numpy as jnp

from unclip_jax import images, rng
from unclip_jax.arrays import Bool, Float, Int, Key, PyTree
from unclip_jax.batches import empty_captions
from unclip_jax.diffusion import losses
from unclip_jax.diffusion.schedule import Schedule
from unclip_jax.models.clip import CLIP, TextFeatures
from unclip_jax.models.diffusion_prior import DiffusionPrior
from unclip_jax.stages.embedding_statistics import EmbeddingStatistics
from unclip_jax.tasks import denoising


@dataclasses.dataclass(frozen=True, kw_only=True)
class DiffusionPriorOptions(denoising.DenoisingOptions):
    """Options of the prior's task.

    Attributes:
      drop_text: Fraction of the rows whose caption is dropped.
      snr_clip: See `DenoisingOptions`.
      logit_normal: See `DenoisingOptions`.

    Raises:
      ValueError: If an option is out of range.
    """

    drop_text: float = 0.1

    def __post_init__(self):
        super().__post_init__()
        denoising.check_share("drop_text", self.drop_text)


@dataclasses.dataclass(frozen=True)
class DiffusionPriorTask(DiffusionPriorOptions):
    """Training task of a prior, on the image embeddings of a frozen CLIP.

    Batch fields: `tokens`, `row`, and either `embedding` or `image`. Frozen parameters: `clip`, and `statistics` with
    the `mean` and `std` of its image embeddings. Options are keyword arguments.

    Attributes:
      model: The network.
      clip: The CLIP whose parameters are frozen.
      schedule: The noise schedule.
      empty: Tokens of the empty caption.
    """

    model: DiffusionPrior
    clip: CLIP
    schedule: Schedule
    empty: Int["L"]
    rows_are_independent: ClassVar[bool] = True
    auxiliary: ClassVar[tuple[str, ...]] = ()

    def init(self, key: Key[""], batch: PyTree) -> PyTree:
        """Initializes the network."""
        rows, length = batch["tokens"].shape
        text = TextFeatures(
            pooled=jnp.zeros((rows, self.clip.embed_dim)),
            sequence=jnp.zeros((rows, length, self.clip.text_width)),
            mask=jnp.ones((rows, length), bool),
        )
        z_t, t = jnp.zeros((rows, self.model.embed_dim)), jnp.zeros(rows, jnp.int32)
        return self.model.init(key, z_t, t, text)["params"]

    def loss(self, params: PyTree, frozen: PyTree, batch: PyTree, keys: PyTree, *, train: bool = True):
        """Computes the mean loss (see `training.task.Task`)."""
        z = self.standardized(frozen, batch)
        drop = self.drops(keys.rows)
        tokens = empty_captions(batch["tokens"], drop, self.empty)
        text = self.clip.apply({"params": frozen["clip"]}, tokens, method="encode_text")
        z_t, t, noise = denoising.noised(self.schedule, z, keys.rows, logit_normal=self.logit_normal)
        predicted = self.model.apply({"params": params}, z_t, t, text)
        loss = losses.weighted_simple(
            self.schedule, predicted, x0=z, t=t, noise=noise, predicts="x0", snr_clip=self.snr_clip
        )
        return jnp.mean(loss), {"drop_text": jnp.mean(drop)}

    def drops(self, keys: Key["B"]) -> Bool["B"]:
        """Draws the rows whose caption is dropped."""
        return rng.bernoulli_rows(rng.named_rows(keys, "drop_text"), self.drop_text)

    def preview(self, params: PyTree, frozen: PyTree, batch: PyTree, keys: PyTree) -> None:
        """Returns None, because the prior does not generate images."""
        return None

    def standardized(self, frozen: PyTree, batch: PyTree) -> Float["B E"]:
        """Returns the standardized image embeddings of a batch."""
        z = batch.get("embedding")
        if z is None:
            pixels = images.clip_pixels(images.to_unit(batch["image"]), self.clip.image_size)
            z = self.clip.apply({"params": frozen["clip"]}, pixels, method="encode_image")
        return EmbeddingStatistics.from_extras(frozen).standardize(z)
