"""CLIP's contrastive task: pictures and captions that belong together get similar embeddings (arXiv 2103.00020).

For a global batch of B pairs, with unit-length embeddings u_i of pictures and v_j of captions and a learned scale s,

    L = 1/2 mean_i [ -log softmax_j(s u_i . v_j)_i ] + 1/2 mean_j [ -log softmax_i(s u_i . v_j)_j ]            (InfoNCE)

where j runs over the whole global batch, so the loss is the same however the batch is spread over devices. Where every
row has a wrong caption too (Yuksekgonul et al. 2023, arXiv 2210.01936, section 5), the first softmax runs over all
captions, the wrong ones of all rows among them.
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


def info_nce(image: Float["B E"], text: Float["N E"], logit_scale: Float[""]) -> tuple[Float[""], Float[""]]:
    """The symmetric loss above, and the share of rows whose own caption is the nearest. Embeddings of any length; what
    `text` has beyond the captions of the B rows are the wrong ones."""
    logits = logit_scale * _unit(image) @ _unit(text).T
    pairs = jnp.arange(logits.shape[0])
    by_image = optax.softmax_cross_entropy_with_integer_labels(logits, pairs)
    by_text = optax.softmax_cross_entropy_with_integer_labels(logits[:, : logits.shape[0]].T, pairs)
    accuracy = jnp.mean(jnp.argmax(logits, axis=-1) == pairs)
    return jnp.mean(by_image + by_text) / 2.0, accuracy


@dataclasses.dataclass(frozen=True)
class Contrastive:
    """Trains both towers of `model`. Batch fields: `image`, `tokens`, and `wrong_tokens` where there are some.

    Args:
      micro_batches: into how many parts the towers take a batch, one after another. The loss needs the embeddings of
        all rows; the backward pass computes each part's activations anew and keeps those of one part at a time.
    """

    model: CLIP
    micro_batches: int = 1
    rows_are_independent: ClassVar[bool] = False

    def init(self, key: Key[""], batch: PyTree) -> PyTree:
        return self.model.init(key, self._pixels(batch), batch["tokens"])["params"]

    def loss(self, params: PyTree, frozen: PyTree, batch: PyTree, keys: PyTree, *, train: bool = True):
        def embed(part: PyTree) -> tuple[Float["B E"], Float["B E"], Float["B E"] | None]:
            image, text, _ = self.model.apply({"params": params}, self._pixels(part), part["tokens"])
            if "wrong_tokens" not in part:
                return image, text.pooled, None
            wrong = self.model.apply({"params": params}, part["wrong_tokens"], method="encode_text")
            return image, text.pooled, wrong.pooled

        if self.micro_batches == 1:
            image, text, wrong = embed(batch)
        else:
            answers = jax.lax.map(jax.checkpoint(embed), split_rows(batch, self.micro_batches))
            image, text, wrong = join_rows(answers)
        text = text if wrong is None else jnp.concatenate([text, wrong])
        logit_scale = self.model.apply({"params": params}, method="cosine_scale")
        loss, accuracy = info_nce(image, text, logit_scale)
        return loss, {"accuracy": accuracy, "logit_scale": logit_scale}

    def preview(self, params: PyTree, frozen: PyTree, batch: PyTree, keys: PyTree) -> None:
        return None

    def _pixels(self, batch: PyTree) -> Float["B S S 3"]:
        return images.clip_pixels(images.to_unit(batch["image"]), self.model.image_size)


def _unit(x: jax.Array) -> jax.Array:
    return x / jnp.linalg.norm(x, axis=-1, keepdims=True)
