"""CLIP's contrastive task: pictures and captions that belong together get similar embeddings (arXiv 2103.00020).

For a global batch of B pairs, with unit-length embeddings u_i of pictures and v_j of captions and a learned scale s,

    L = 1/2 mean_i [ -log softmax_j(s u_i . v_j)_i ] + 1/2 mean_j [ -log softmax_i(s u_i . v_j)_j ]            (InfoNCE)

where j runs over the whole global batch, so the loss is the same however the batch is spread over devices. Where every
row has a wrong caption too (Yuksekgonul et al. 2023, arXiv 2210.01936, section 5), the first softmax runs over all
captions, the wrong ones of all rows among them.

Places are what both towers can agree to ignore: as long as captions' embeddings say nothing of them, whatever pictures'
say of them is noise to this loss, and the other way round. Where the data know what is where (`moments`), a linear map
that is learned beside the towers has to tell it from u_i, by the share of its variance that stays untold.
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

MOMENTS = "moments"


def info_nce(image: Float["B E"], text: Float["N E"], logit_scale: Float[""]) -> tuple[Float[""], Float[""]]:
    """The symmetric loss above, and the share of rows whose own caption is the nearest. Embeddings of any length; what
    `text` has beyond the captions of the B rows are the wrong ones."""
    logits = logit_scale * _unit(image) @ _unit(text).T
    pairs = jnp.arange(logits.shape[0])
    by_image = optax.softmax_cross_entropy_with_integer_labels(logits, pairs)
    by_text = optax.softmax_cross_entropy_with_integer_labels(logits[:, : logits.shape[0]].T, pairs)
    accuracy = jnp.mean(jnp.argmax(logits, axis=-1) == pairs)
    return jnp.mean(by_image + by_text) / 2.0, accuracy


def untold(said: Float["B M"], moments: Float["B M"]) -> Float[""]:
    """Mean over the moments of the squared error as a share of the variance in the batch: 1 - R^2."""
    error = jnp.mean(jnp.square(said - moments), axis=0)
    return jnp.mean(error / (jnp.var(moments, axis=0) + 1e-3))  # a moment may be the same in every row


@dataclasses.dataclass(frozen=True, kw_only=True)
class ContrastiveOptions:
    """Options of the task.

    Attributes:
      moments_weight: Weight in the loss of the share of the moments' variance that the embeddings do not explain, if
        batches have moments.
    """

    moments_weight: float = 10.0


@dataclasses.dataclass(frozen=True)
class Contrastive(ContrastiveOptions):
    """Trains both towers of `model`. Batch fields: `image`, `tokens`, and where there are some `wrong_tokens` and
    `moments`. With moments the parameters have the linear map under MOMENTS, which is not of the network.

    Args:
      micro_batches: into how many parts the towers take a batch, one after another. The loss needs the embeddings of
        all rows; the backward pass computes each part's activations anew and keeps those of one part at a time.

    All options are keyword arguments.
    """

    model: CLIP
    micro_batches: int = 1
    rows_are_independent: ClassVar[bool] = False
    auxiliary: ClassVar[tuple[str, ...]] = (MOMENTS,)

    def init(self, key: Key[""], batch: PyTree) -> PyTree:
        params = self.model.init(key, self._pixels(batch), batch["tokens"])["params"]
        if "moments" not in batch:
            return params
        count = batch["moments"].shape[-1]
        return {**params, MOMENTS: {"kernel": jnp.zeros((self.model.embed_dim, count)), "bias": jnp.zeros(count)}}

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
        metrics = {"accuracy": accuracy, "logit_scale": logit_scale}
        if "moments" in batch:
            unit = _unit(image) * image.shape[-1] ** 0.5  # a number is about 1
            metrics["untold"] = untold(unit @ params[MOMENTS]["kernel"] + params[MOMENTS]["bias"], batch["moments"])
            loss += self.moments_weight * metrics["untold"]
        return loss, metrics

    def preview(self, params: PyTree, frozen: PyTree, batch: PyTree, keys: PyTree) -> None:
        return None

    def _pixels(self, batch: PyTree) -> Float["B S S 3"]:
        return images.clip_pixels(images.to_unit(batch["image"]), self.model.image_size)


def _unit(x: jax.Array) -> jax.Array:
    return x / jnp.linalg.norm(x, axis=-1, keepdims=True)
