"""Decoder, which generates an image from a CLIP image embedding and a caption.

It is the decoder of unCLIP (Ramesh et al. 2022, arXiv 2204.06125, Section 2.1) as implemented in Karlo.
"""

import jax.numpy as jnp
import numpy as np

from unclip_jax.kinds.kind import CLIP, StageKind, TaskParts
from unclip_jax.models.decoder import Decoder
from unclip_jax.sampling.denoising import Denoising, Inputs
from unclip_jax.stages.conditions import Conditions
from unclip_jax.stages.stage import Stage
from unclip_jax.tasks.decoder import DecoderOptions, DecoderTask


def inputs(stage: Stage, conditions: Conditions) -> Inputs:
    """Returns the unnormalized image embeddings and the text features as network inputs."""
    clip = stage.spec.encoders[CLIP].stage
    z = conditions.image_embedding[clip]
    return {"image_embedding": z, "text": conditions.text[clip], "drop_image": np.zeros(len(z), bool)}


def unconditional(module: Decoder, inputs: Inputs, empty: Inputs) -> Inputs:
    """Drops the image embedding and replaces the caption with the empty caption."""
    return {**inputs, "text": empty["text"], "drop_image": jnp.ones_like(inputs["drop_image"])}


def make_task(parts: TaskParts) -> DecoderTask:
    """Returns the training task of the stage."""
    clip = parts.encoders[CLIP]
    return DecoderTask(
        parts.module,
        clip.module,
        parts.schedule,
        clip.tokenizer.encode([""])[0],
        predicts=parts.spec.diffusion.predicts,
        **vars(parts.options),
    )


KIND = StageKind(
    name="decoder",
    network=Decoder,
    produces="image",
    roles=lambda module: (CLIP,),
    shared_fields=("embed_dim", "text_width"),
    reads=lambda module: ("image_embedding", "text"),
    batch_fields=("image", "clip_image", "tokens"),
    options=DecoderOptions,
    make_task=make_task,
    denoising=Denoising(inputs, unconditional=unconditional),
)
