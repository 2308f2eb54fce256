"""A stage kind of another package: images of colored blobs from CLIP's features of the caption.

Nothing of unclip_jax knows this file. It is used as a module of `tests`, and copied into a distribution of its own.
"""

import dataclasses
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from unclip_jax import images, rng
from unclip_jax.batches import empty_captions
from unclip_jax.diffusion.denoiser import denoiser_from_network
from unclip_jax.diffusion.forward_process import q_sample
from unclip_jax.diffusion.schedule import Schedule
from unclip_jax.kinds.kind import CLIP, StageKind, TaskParts
from unclip_jax.models.text_features import TextFeatures, example_text_features
from unclip_jax.sampling.denoising import Denoising


class Blob(nn.Module):
    """One convolution over the noisy image, plus one color per caption. Predicts x0."""

    image_size: int
    embed_dim: int
    text_width: int
    context_length: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x_t, t, text: TextFeatures):
        color = nn.Dense(3, name="color")(text.pooled)
        return nn.Conv(3, (3, 3), name="conv")(x_t) + color[:, None, None]

    def example_inputs(self):
        return {
            "x_t": jnp.zeros((1, self.image_size, self.image_size, 3)),
            "t": jnp.zeros(1, jnp.int32),
            "text": example_text_features(self.embed_dim, self.text_width, self.context_length),
        }


@dataclasses.dataclass(frozen=True, kw_only=True)
class BlobOptions:
    """Options of the task: the share of the rows that lose their caption."""

    drop_text: float = 0.5

    def __post_init__(self):
        if not 0.0 <= self.drop_text <= 1.0:
            raise ValueError(f"drop_text must be in [0, 1], got {self.drop_text!r}.")


@dataclasses.dataclass(frozen=True)
class BlobTask:
    """Mean squared error of x0. Frozen: `clip`."""

    model: Blob
    clip: nn.Module
    schedule: Schedule
    empty: Any
    options: BlobOptions
    rows_are_independent: ClassVar[bool] = True
    auxiliary: ClassVar[tuple[str, ...]] = ()

    def init(self, key, batch):
        return self.model.init(key, **self.model.example_inputs())["params"]

    def loss(self, params, frozen, batch, keys, *, train=True):
        x0 = images.to_unit(batch["image"])
        rows = x0.shape[0]
        drop = rng.bernoulli_rows(rng.named_rows(keys.rows, "drop_text"), self.options.drop_text)
        t = rng.randint_rows(rng.named_rows(keys.rows, "time"), 0, self.schedule.num_steps)
        noise = rng.normal_rows(rng.named_rows(keys.rows, "noise"), x0.shape[1:])
        tokens = empty_captions(batch["tokens"], drop, self.empty)
        text = self.clip.apply({"params": frozen["clip"]}, tokens, method="encode_text")
        output = self.model.apply({"params": params}, q_sample(self.schedule, x0, t, noise), t, text)
        return jnp.mean(jnp.square(output - x0)), {"drop_text": jnp.sum(drop) / rows}

    def preview(self, params, frozen, batch, keys):
        text = self.clip.apply({"params": frozen["clip"]}, batch["tokens"], method="encode_text")
        denoiser = denoiser_from_network(
            lambda x_t, t: self.model.apply({"params": params}, x_t, t, text), schedule=self.schedule, predicts="x0"
        )
        noise = rng.normal_rows(rng.named_rows(keys.rows, "preview"), batch["image"].shape[1:])
        return images.to_uint8(denoiser(noise, jnp.full(noise.shape[0], self.schedule.num_steps - 1)).x0)


def make_task(parts: TaskParts) -> BlobTask:
    clip = parts.encoders[CLIP]
    return BlobTask(parts.module, clip.module, parts.schedule, clip.tokenizer.encode([""])[0], parts.options)


def check(spec, module) -> None:
    if spec.diffusion.predicts != "x0":
        raise ValueError(f"diffusion.predicts of {spec.name} must be 'x0', got {spec.diffusion.predicts!r}.")


def inputs(stage, conditions):
    return {"text": conditions.text[stage.spec.encoders[CLIP].stage]}


def unconditional(module, inputs, empty):
    return jax.tree.map(lambda x: x, empty)


KIND = StageKind(
    name="blob",
    network=Blob,
    produces="image",
    roles=lambda module: (CLIP,),
    reads=lambda module: ("text",),
    batch_fields=("image", "tokens"),
    options=BlobOptions,
    check=check,
    make_task=make_task,
    denoising=Denoising(inputs, unconditional=unconditional),
)
