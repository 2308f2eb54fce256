"""The decoder's task: from a CLIP image embedding and a caption to a picture (unCLIP, section 2.1).

The U-Net predicts the noise, or the picture itself, and for each pixel where the reverse variance lies between its
bounds; the loss is the hybrid of Improved DDPM. For classifier-free guidance the embedding is dropped for 10 % of the
rows and the caption for 50 %, independently: a dropped embedding is the network's own null vector, a dropped caption
the empty caption.

At sampling time the embedding comes from the prior, which interpolates colors for combinations it has not seen in
training. `color_jitter` gives CLIP a recolored image in rows that keep their caption, so that the decoder takes a color
from its word: the conditioning augmentation of cascaded diffusion (arXiv 2106.15282, section 4), by an affine map of
RGB.
"""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp

from unclip_jax import images, rng
from unclip_jax.arrays import Bool, Float, Int, Key, PyTree, UInt8
from unclip_jax.batches import empty_captions
from unclip_jax.diffusion import losses
from unclip_jax.diffusion.prediction import check_predicts, target
from unclip_jax.diffusion.schedule import Schedule
from unclip_jax.models.clip import CLIP, TextFeatures
from unclip_jax.models.decoder import Decoder
from unclip_jax.tasks import denoising


@dataclasses.dataclass(frozen=True, kw_only=True)
class DecoderOptions(denoising.DenoisingOptions):
    """Options of the task.

    Attributes:
      drop_image: Share of the rows whose embedding is dropped.
      drop_text: Share of the rows whose caption is dropped.
      color_jitter: Largest strength of the color jitter of CLIP's image in rows that keep their caption, see
        `jitter_colors`; 0 disables it.
      vb_weight: Weight of the variational bound that trains the variance.
      snr_clip, logit_normal: See `DenoisingOptions`.
    """

    drop_image: float = 0.1
    drop_text: float = 0.5
    color_jitter: float = 0.0
    vb_weight: float = losses.VB_WEIGHT

    def __post_init__(self):
        super().__post_init__()
        denoising.check_share("drop_image", self.drop_image)
        denoising.check_share("drop_text", self.drop_text)
        if not self.color_jitter >= 0.0:
            raise ValueError(f"color_jitter must be a standard deviation of at least 0, got {self.color_jitter!r}.")


@dataclasses.dataclass(frozen=True)
class DecoderTask(DecoderOptions):
    """Trains `model` beside a frozen CLIP. Batch fields: `image`, `clip_image`, `tokens`, `row`.

    Frozen: `clip`, the CLIP's parameters.

    The metric `variance_clipped` is the share of variance fractions outside `losses.FRACTION_RANGE`.

    Args:
      empty: tokens of the empty caption, "L".
      predicts: what the network answers beside the variance, one of `prediction.PREDICTS`.

    All options are keyword arguments.
    """

    model: Decoder
    clip: CLIP
    schedule: Schedule
    empty: Int["L"]
    predicts: str = "eps"
    rows_are_independent: ClassVar[bool] = True
    auxiliary: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self):
        super().__post_init__()
        check_predicts(self.predicts)

    def init(self, key: Key[""], batch: PyTree) -> PyTree:
        x = images.to_unit(batch["image"])
        rows, length = batch["tokens"].shape
        text = TextFeatures(
            pooled=jnp.zeros((rows, self.clip.embed_dim)),
            sequence=jnp.zeros((rows, length, self.clip.text_width)),
            mask=jnp.ones((rows, length), bool),
        )
        t, z = jnp.zeros(rows, jnp.int32), jnp.zeros((rows, self.model.embed_dim))
        return self.model.init(key, x, t, z, text, drop_image=jnp.zeros(rows, bool))["params"]

    def loss(self, params: PyTree, frozen: PyTree, batch: PyTree, keys: PyTree, *, train: bool = True):
        x0 = images.to_unit(batch["image"])
        drop_image, drop_text = self.drops(keys.rows)
        clip_image = images.to_unit(batch["clip_image"])
        if self.color_jitter:
            # The purpose keeps its spelling: it seeds the jitter.
            jittered = jitter_colors(clip_image, rng.named_rows(keys.rows, "colour_jitter"), most=self.color_jitter)
            clip_image = jnp.where(drop_text[:, None, None, None], clip_image, jittered)
        z, text = self._conditions(frozen, batch, clip_image, drop_text)
        x_t, t, noise = denoising.noised(self.schedule, x0, keys.rows, logit_normal=self.logit_normal)
        output = self.model.apply(
            {"params": params},
            x_t,
            t,
            z,
            text,
            drop_image=drop_image,
            deterministic=not train,
            rngs={"dropout": keys.layers},
        )
        loss = losses.hybrid(
            self.schedule,
            output,
            x0=x0,
            x_t=x_t,
            t=t,
            noise=noise,
            predicts=self.predicts,
            vb_weight=self.vb_weight,
            snr_clip=self.snr_clip,
        )
        wanted = target(self.schedule, self.predicts, x0=x0, noise=noise, t=t)
        simple = losses.simple(output[..., :3], wanted)
        metrics = {
            "simple": jnp.mean(simple),
            "variance_clipped": jnp.mean(losses.clipped_fraction(output, 3)),
            "drop_image": jnp.mean(drop_image),
            "drop_text": jnp.mean(drop_text),
        }
        return jnp.mean(loss), metrics

    def drops(self, keys: Key["B"]) -> tuple[Bool["B"], Bool["B"]]:
        """Which rows lose their embedding, and which their caption."""
        image = rng.bernoulli_rows(rng.named_rows(keys, "drop_image"), self.drop_image)
        return image, rng.bernoulli_rows(rng.named_rows(keys, "drop_text"), self.drop_text)

    def preview(self, params: PyTree, frozen: PyTree, batch: PyTree, keys: PyTree) -> UInt8["2B H W 3"]:
        """For each row the true picture and, after it, one made from its embedding and caption."""
        clip_image = images.to_unit(batch["clip_image"])
        z, text = self._conditions(frozen, batch, clip_image, jnp.zeros(batch["row"].shape, bool))
        made = denoising.preview(
            self.schedule,
            lambda x_t, t: self.model.apply({"params": params}, x_t, t, z, text),
            keys.rows,
            batch["image"].shape[1:],
            predicts=self.predicts,
        )
        return jnp.stack([batch["image"], made], axis=1).reshape(-1, *made.shape[1:])

    def _conditions(
        self, frozen: PyTree, batch: PyTree, clip_image: Float["B H W 3"], drop: Bool["B"]
    ) -> tuple[Float["B E"], TextFeatures]:
        variables = {"params": frozen["clip"]}
        pixels = images.clip_pixels(clip_image, self.clip.image_size)
        tokens = empty_captions(batch["tokens"], drop, self.empty)
        z = self.clip.apply(variables, pixels, method="encode_image")
        return z, self.clip.apply(variables, tokens, method="encode_text")


def jitter_colors(pictures: Float["B H W 3"], keys: Key["B"], *, most: float) -> Float["B H W 3"]:
    """Maps the colors c of each image, in [-1, 1], to c + c A + b, clipped to that range.

    The twelve numbers of A and b are normal, with a standard deviation drawn for each image uniformly from 0 to `most`.
    """
    deviation = most * jax.vmap(jax.random.uniform)(rng.named_rows(keys, "deviation"))
    drawn = deviation[:, None, None] * rng.normal_rows(rng.named_rows(keys, "map"), (4, 3))
    moved = jnp.einsum("bhwc,bcd->bhwd", pictures, drawn[:, :3]) + drawn[:, None, None, 3]
    return jnp.clip(pictures + moved, -1.0, 1.0)
