"""Training of the decoder (unCLIP; Ramesh et al. 2022, arXiv 2204.06125, Section 2.1).

The U-Net receives a noisy image, the CLIP embedding of the image and its caption. It predicts the noise, the image or
v, and for each pixel the position of the reverse variance between its bounds. The loss is L_hybrid of Improved DDPM
(see `diffusion.losses`).

For classifier-free guidance, the embedding is dropped for 10% of the rows and the caption for 50% by default,
independently. A learned null embedding replaces a dropped embedding, and the empty caption replaces a dropped caption.

At sampling time the embedding comes from the prior, which interpolates colors for combinations it has not seen in
training. `color_jitter` therefore passes a recolored image to CLIP in the rows that keep their caption, so that the
decoder learns to take colors from the caption. It is a conditioning augmentation as in cascaded diffusion (Ho et al.
2021, arXiv 2106.15282, Section 4), by an affine map of RGB.
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
    """Options of the decoder task.

    Attributes:
      drop_image: Fraction of the rows whose embedding is dropped.
      drop_text: Fraction of the rows whose caption is dropped.
      color_jitter: `max_std` of `jitter_colors`, which is applied to CLIP's image in the rows that keep their caption;
        0 disables it.
      vb_weight: Weight of the variational bound that trains the variance, see `losses.hybrid`.
      snr_clip: See `DenoisingOptions`.
      logit_normal: See `DenoisingOptions`.

    Raises:
      ValueError: If an option is out of range.
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
            raise ValueError(f"color_jitter must be at least 0, got {self.color_jitter!r}.")


@dataclasses.dataclass(frozen=True)
class DecoderTask(DecoderOptions):
    """Training task of a decoder, conditioned on the embeddings and text features of a frozen CLIP.

    Batch fields: `image`, `clip_image`, `tokens`, `row`. Frozen parameters: `clip`. Options are keyword arguments. The
    metric `variance_clipped` is the fraction of outputs for the variance that are outside `losses.FRACTION_RANGE`.

    Attributes:
      model: The network.
      clip: The CLIP whose parameters are frozen.
      schedule: The noise schedule.
      empty: Tokens of the empty caption.
      predicts: Parameterization of the output, besides the variance, one of `prediction.PREDICTS`.
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
        """Initializes the network."""
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
        """Computes the mean loss (see `training.task.Task`)."""
        x0 = images.to_unit(batch["image"])
        drop_image, drop_text = self.drops(keys.rows)
        clip_image = images.to_unit(batch["clip_image"])
        if self.color_jitter:
            # The purpose keeps its spelling, because it determines the random numbers.
            jitter_keys = rng.named_rows(keys.rows, "colour_jitter")
            jittered = jitter_colors(clip_image, jitter_keys, max_std=self.color_jitter)
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
        expected = target(self.schedule, self.predicts, x0=x0, noise=noise, t=t)
        simple = losses.simple(output[..., :3], expected)
        metrics = {
            "simple": jnp.mean(simple),
            "variance_clipped": jnp.mean(losses.clipped_fraction(output, 3)),
            "drop_image": jnp.mean(drop_image),
            "drop_text": jnp.mean(drop_text),
        }
        return jnp.mean(loss), metrics

    def drops(self, keys: Key["B"]) -> tuple[Bool["B"], Bool["B"]]:
        """Draws the rows whose embedding is dropped and those whose caption is dropped."""
        image = rng.bernoulli_rows(rng.named_rows(keys, "drop_image"), self.drop_image)
        return image, rng.bernoulli_rows(rng.named_rows(keys, "drop_text"), self.drop_text)

    def preview(self, params: PyTree, frozen: PyTree, batch: PyTree, keys: PyTree) -> UInt8["2B H W 3"]:
        """Returns for each row the true image, followed by one generated from its embedding and caption."""
        clip_image = images.to_unit(batch["clip_image"])
        z, text = self._conditions(frozen, batch, clip_image, jnp.zeros(batch["row"].shape, bool))
        generated = denoising.preview(
            self.schedule,
            lambda x_t, t: self.model.apply({"params": params}, x_t, t, z, text),
            keys.rows,
            batch["image"].shape[1:],
            predicts=self.predicts,
        )
        return jnp.stack([batch["image"], generated], axis=1).reshape(-1, *generated.shape[1:])

    def _conditions(
        self, frozen: PyTree, batch: PyTree, clip_image: Float["B H W 3"], drop: Bool["B"]
    ) -> tuple[Float["B E"], TextFeatures]:
        variables = {"params": frozen["clip"]}
        pixels = images.clip_pixels(clip_image, self.clip.image_size)
        tokens = empty_captions(batch["tokens"], drop, self.empty)
        z = self.clip.apply(variables, pixels, method="encode_image")
        return z, self.clip.apply(variables, tokens, method="encode_text")


def jitter_colors(rgb: Float["B H W 3"], keys: Key["B"], *, max_std: float) -> Float["B H W 3"]:
    """Applies a random affine map to the colors of each image.

    A color c becomes c + c A + b, clipped to [-1, 1].

    Args:
      rgb: Images in [-1, 1].
      keys: One key per image.
      max_std: The twelve elements of A and b are normal. Their standard deviation is drawn uniformly from 0 to
        `max_std` for each image.
    """
    std = max_std * jax.vmap(jax.random.uniform)(rng.named_rows(keys, "deviation"))
    affine = std[:, None, None] * rng.normal_rows(rng.named_rows(keys, "map"), (4, 3))
    change = jnp.einsum("bhwc,bcd->bhwd", rgb, affine[:, :3]) + affine[:, None, None, 3]
    return jnp.clip(rgb + change, -1.0, 1.0)
