"""Contrastive training of CLIP (Radford et al. 2021, arXiv 2103.00020).

For a global batch of B pairs, with unit-length embeddings u_i of images and v_j of captions and a learned scale s,

    L = 1/2 mean_i [ -log softmax_j(s u_i . v_j)_i ] + 1/2 mean_j [ -log softmax_i(s u_i . v_j)_j ]            (InfoNCE)

where i and j run over the whole global batch, so that the loss does not depend on how the batch is sharded. If every
row also has a negative caption (Yuksekgonul et al. 2023, arXiv 2210.01936, Section 5), the first softmax runs over the
captions and negative captions of all rows.

InfoNCE allows both encoders to ignore the positions of objects: as long as the embeddings of captions do not encode
positions, positions in the embeddings of images are noise to the loss, and vice versa. If batches contain regression
targets that describe the scene (`moments`), a linear head is therefore trained to predict them from u_i. The fraction
of their variance that it does not explain is added to the loss.
"""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
import optax

from unclip_jax import images
from unclip_jax.arrays import Float, Key, PyTree
from unclip_jax.batches import join_rows, split_rows
from unclip_jax.models.clip import CLIP

SCENE_HEAD = "moments"  # name of the parameters of the linear head


def info_nce(image: Float["B E"], text: Float["N E"], logit_scale: Float[""]) -> tuple[Float[""], Float[""]]:
    """Computes the InfoNCE loss and the accuracy of retrieving captions.

    The embeddings need not be normalized.

    Args:
      image: Embeddings of images.
      text: Embeddings of the B captions, followed by those of negative captions, if there are any.
      logit_scale: Factor s of the cosine similarities.

    Returns:
      The loss, and the fraction of images whose own caption has the highest similarity.
    """
    logits = logit_scale * _unit(image) @ _unit(text).T
    pairs = jnp.arange(logits.shape[0])
    by_image = optax.softmax_cross_entropy_with_integer_labels(logits, pairs)
    by_text = optax.softmax_cross_entropy_with_integer_labels(logits[:, : logits.shape[0]].T, pairs)
    accuracy = jnp.mean(jnp.argmax(logits, axis=-1) == pairs)
    return jnp.mean(by_image + by_text) / 2.0, accuracy


def unexplained_variance(prediction: Float["B M"], targets: Float["B M"]) -> Float[""]:
    """Computes 1 - R^2, the squared error relative to the variance in the batch, averaged over targets."""
    error = jnp.mean(jnp.square(prediction - targets), axis=0)
    return jnp.mean(error / (jnp.var(targets, axis=0) + 1e-3))  # a target may be constant in the batch


@dataclasses.dataclass(frozen=True, kw_only=True)
class ContrastiveOptions:
    """Options of the contrastive task.

    Attributes:
      moments_weight: Weight of the unexplained variance of the scene targets in the loss, if batches have `moments`.
    """

    moments_weight: float = 10.0


@dataclasses.dataclass(frozen=True)
class Contrastive(ContrastiveOptions):
    """Contrastive task, which trains both encoders of a CLIP.

    Batch fields: `image`, `tokens`, and optionally `wrong_tokens` (negative captions) and `moments` (scene targets).
    With `moments`, the parameters contain the linear head under `SCENE_HEAD`, which is not part of the network, and the
    metric `untold` is the unexplained variance of the scene targets.

    Attributes:
      model: The network.
      micro_batches: Number of micro-batches that the encoders process one after another. The loss still uses the
        embeddings of all rows. The backward pass recomputes the activations of one micro-batch at a time.
      moments_weight: See `ContrastiveOptions`. A keyword argument.
    """

    model: CLIP
    micro_batches: int = 1
    rows_are_independent: ClassVar[bool] = False
    auxiliary: ClassVar[tuple[str, ...]] = (SCENE_HEAD,)

    def init(self, key: Key[""], batch: PyTree) -> PyTree:
        """Initializes the network, and the linear head to zeros if batches have `moments`."""
        params = self.model.init(key, self._pixels(batch), batch["tokens"])["params"]
        if "moments" not in batch:
            return params
        count = batch["moments"].shape[-1]
        return {**params, SCENE_HEAD: {"kernel": jnp.zeros((self.model.embed_dim, count)), "bias": jnp.zeros(count)}}

    def loss(self, params: PyTree, frozen: PyTree, batch: PyTree, keys: PyTree, *, train: bool = True):
        """Computes the loss over the whole batch (see `training.task.Task`)."""

        def embed(rows: PyTree) -> tuple[Float["B E"], Float["B E"], Float["B E"] | None]:
            image, text, _ = self.model.apply({"params": params}, self._pixels(rows), rows["tokens"])
            if "wrong_tokens" not in rows:
                return image, text.pooled, None
            negative = self.model.apply({"params": params}, rows["wrong_tokens"], method="encode_text")
            return image, text.pooled, negative.pooled

        if self.micro_batches == 1:
            image, text, negative = embed(batch)
        else:
            embeddings = jax.lax.map(jax.checkpoint(embed), split_rows(batch, self.micro_batches))
            image, text, negative = join_rows(embeddings)
        text = text if negative is None else jnp.concatenate([text, negative])
        logit_scale = self.model.apply({"params": params}, method="cosine_scale")
        loss, accuracy = info_nce(image, text, logit_scale)
        metrics = {"accuracy": accuracy, "logit_scale": logit_scale}
        if "moments" in batch:
            scaled = _unit(image) * image.shape[-1] ** 0.5  # each element is about 1
            prediction = scaled @ params[SCENE_HEAD]["kernel"] + params[SCENE_HEAD]["bias"]
            metrics["untold"] = unexplained_variance(prediction, batch["moments"])
            loss += self.moments_weight * metrics["untold"]
        return loss, metrics

    def preview(self, params: PyTree, frozen: PyTree, batch: PyTree, keys: PyTree) -> None:
        """Returns None, because CLIP does not generate images."""
        return None

    def _pixels(self, batch: PyTree) -> Float["B S S 3"]:
        return images.clip_pixels(images.to_unit(batch["image"]), self.model.image_size)


def _unit(x: jax.Array) -> jax.Array:
    return x / jnp.linalg.norm(x, axis=-1, keepdims=True)
