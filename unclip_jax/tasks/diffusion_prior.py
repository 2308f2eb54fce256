"""The diffusion prior's task: from a caption to the CLIP embedding of its picture (unCLIP, section 2.2).

The network sees z_i noised to step t, CLIP's features of the caption and t, and predicts the clean z_i itself:

    L = E |f(z_i^(t), t, y) - z_i|^2

in embeddings standardised per dimension, (z_i - mean) / std, as Karlo's are. The caption is dropped for a share of the
rows: the empty caption's tokens go through the text tower instead.
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
    """Options of the task.

    Attributes:
      drop_text: Share of the rows whose caption is dropped.
      snr_clip, logit_normal: See `DenoisingOptions`.
    """

    drop_text: float = 0.1

    def __post_init__(self):
        super().__post_init__()
        denoising.check_share("drop_text", self.drop_text)


@dataclasses.dataclass(frozen=True)
class DiffusionPriorTask(DiffusionPriorOptions):
    """Trains `model` on the embeddings of a frozen CLIP. Batch fields: `image` or `embedding`, `tokens`, `row`.

    Frozen: `clip` (the CLIP's parameters) and `statistics` (`mean` and `std`, "E", of its image embeddings).

    Args:
      empty: tokens of the empty caption, "L".

    All options are keyword arguments.
    """

    model: DiffusionPrior
    clip: CLIP
    schedule: Schedule
    empty: Int["L"]
    rows_are_independent: ClassVar[bool] = True
    auxiliary: ClassVar[tuple[str, ...]] = ()

    def init(self, key: Key[""], batch: PyTree) -> PyTree:
        rows, length = batch["tokens"].shape
        text = TextFeatures(
            pooled=jnp.zeros((rows, self.clip.embed_dim)),
            sequence=jnp.zeros((rows, length, self.clip.text_width)),
            mask=jnp.ones((rows, length), bool),
        )
        z_t, t = jnp.zeros((rows, self.model.embed_dim)), jnp.zeros(rows, jnp.int32)
        return self.model.init(key, z_t, t, text)["params"]

    def loss(self, params: PyTree, frozen: PyTree, batch: PyTree, keys: PyTree, *, train: bool = True):
        z = self.standardised(frozen, batch)
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
        """Which rows lose their caption."""
        return rng.bernoulli_rows(rng.named_rows(keys, "drop_text"), self.drop_text)

    def preview(self, params: PyTree, frozen: PyTree, batch: PyTree, keys: PyTree) -> None:
        return None

    def standardised(self, frozen: PyTree, batch: PyTree) -> Float["B E"]:
        """The pictures' embeddings as the network works on them."""
        z = batch.get("embedding")
        if z is None:
            pixels = images.clip_pixels(images.to_unit(batch["image"]), self.clip.image_size)
            z = self.clip.apply({"params": frozen["clip"]}, pixels, method="encode_image")
        return EmbeddingStatistics.from_extras(frozen).standardize(z)
