"""GLIDE, which encodes captions itself, and the original decoder of unCLIP.

The original decoder of unCLIP (arXiv 2204.06125) is GLIDE (arXiv 2112.10741) with a CLIP image embedding.

With `mask_channels`, the network also receives the known region of an image that is being edited (GLIDE, Section 2.4).
The channels [known image * mask, mask] are concatenated after the noisy image and before the low-resolution image. They
are zeros if nothing is known.
"""

import warnings
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np

from unclip_jax import images
from unclip_jax.kinds.kind import CLIP, StageKind
from unclip_jax.models.glide import Glide
from unclip_jax.sampling.denoising import Denoising, Inputs
from unclip_jax.stages.conditions import Conditions, Tokens
from unclip_jax.stages.spec import StageSpec
from unclip_jax.stages.stage import Stage
from unclip_jax.tokenizers.gpt2_bpe import GPT2Tokenizer


def roles(module: Glide) -> tuple[str, ...]:
    """Returns the CLIP role if the network receives an image embedding."""
    return () if module.embed_dim is None else (CLIP,)


def reads(module: Glide) -> tuple[str, ...]:
    """Returns the tokens, and the image embedding if the network receives one."""
    return ("tokens",) if module.embed_dim is None else ("tokens", "image_embedding")


def check(spec: StageSpec, module: Glide) -> None:
    """Raises ValueError unless `in_channels` matches the `low_res_size` and `mask_channels` of the spec."""
    expected = 3 + (0 if spec.low_res_size is None else 3) + (4 if spec.mask_channels else 0)
    if module.in_channels != expected:
        raise ValueError(
            f"model.in_channels of {spec.name} must be {expected} with low_res_size {spec.low_res_size!r} and "
            f"mask_channels {spec.mask_channels}, got {module.in_channels}."
        )


def encode_text(stage: Stage, captions: Sequence[str]) -> Conditions:
    """Encodes captions into tokens.

    Captions that are too long are truncated with a warning.
    """
    return Conditions(tokens={stage.name: Tokens(*stage.tokenizer.encode(list(captions), on_truncate=warnings.warn))})


def inputs(stage: Stage, conditions: Conditions) -> Inputs:
    """Returns the tokens and the other conditions that the network receives."""
    tokens, mask = conditions.tokens[stage.name]
    found: Inputs = {"tokens": tokens, "mask": mask}
    if stage.module.embed_dim is not None:
        z = conditions.image_embedding[stage.spec.encoders[CLIP].stage]
        found |= {"image_embedding": z, "drop_image": np.zeros(len(z), bool)}
    if stage.spec.low_res_size is not None:
        found["low_res"] = conditions.low_res
    if conditions.known is not None and stage.spec.mask_channels:
        found |= {"known_image": conditions.known.image, "known_mask": conditions.known.mask}
    return found


def prepare(module: Glide, inputs: Inputs) -> Inputs:
    """Concatenates the known region and the low-resolution image, resized as in GLIDE."""
    names = ("low_res", "known_image", "known_mask")
    inputs = dict(inputs)
    low_res, known, mask = (inputs.pop(name, None) for name in names)
    rows, size = len(inputs["tokens"]), images.height_width(module.image_size)
    extra = []
    if module.in_channels - 3 in (4, 7):
        nothing = jnp.zeros((rows, *size, 4))
        extra.append(nothing if known is None else jnp.concatenate([known * mask, mask], axis=-1))
    if low_res is not None:
        extra.append(images.resize_quantized(low_res, size))
    return {**inputs, "extra_channels": jnp.concatenate(extra, axis=-1)} if extra else inputs


def unconditional(module: Glide, inputs: Inputs, empty: Inputs) -> Inputs:
    """Replaces the caption with the empty caption and drops the image embedding."""
    dropped = {**inputs, "tokens": empty["tokens"], "mask": empty["mask"]}
    if "drop_image" in inputs:
        dropped["drop_image"] = jnp.ones_like(inputs["drop_image"])
    return dropped


KIND = StageKind(
    name="glide",
    network=Glide,
    produces="image",
    roles=roles,
    shared_fields=("embed_dim",),
    reads=reads,
    upsamples=None,
    inpaints=True,
    check=check,
    encode_text=encode_text,
    tokenizer=GPT2Tokenizer,
    denoising=Denoising(inputs, unconditional=unconditional, prepare=prepare),
)
