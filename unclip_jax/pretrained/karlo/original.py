"""Karlo's networks (Kakao Brain, v1.0.alpha) with their original tensor names.

    prior-ckpt-*.ckpt          models.diffusion_prior, which predicts embeddings standardized by ViT-L-14_stats.th
    decoder-ckpt-*.ckpt        models.decoder
    improved-sr-ckpt-*.ckpt    models.upsampler twice: for all sampling steps but the last, and for the last

The functions of this module expect tensor names without the prefix "state_dict." of the .ckpt files. The prior of
Kandinsky 2.1 is the same network with the same names.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from unclip_jax.models.diffusion_prior import EXTRA_TOKENS
from unclip_jax.pretrained.clip.openai import transformer_rules
from unclip_jax.pretrained.layer_rules import count_numbers, dense, mlp_ratio, norm
from unclip_jax.pretrained.lazy_tensor import LazyTensor
from unclip_jax.pretrained.rules import Rule
from unclip_jax.pretrained.unet_layouts.adm import adm_fields, adm_rules
from unclip_jax.stages.embedding_statistics import EmbeddingStatistics

MODEL = "model."  # prefix of the names of the prior and the decoder
UPSAMPLER_FIRST, UPSAMPLER_LAST = "model_first_steps.", "model_last_step."
# Tensor shapes determine neither the width of a head nor the image sizes.
HEAD_WIDTH, DECODER_SIZE, UPSAMPLER_SIZE = 64, 64, 256
# Fields of `UNet` that `Decoder` and `Upsampler` set.
NOT_IN_DECODER = ("context_width", "num_classes", "resblock_updown")
NOT_IN_UPSAMPLER = (*NOT_IN_DECODER, "attention_resolutions", "head_channels", "num_heads")


def prior_fields(tensors: Mapping[str, LazyTensor]) -> dict[str, Any]:
    """Returns the fields of `models.diffusion_prior.DiffusionPrior`.

    Raises:
      KeyError: If a tensor is missing.
    """
    width, text_width = tensors[f"{MODEL}text_enc_proj.weight"].shape
    mlp = tensors[f"{MODEL}transformer.resblocks.0.mlp.c_fc.weight"].shape[0]
    return {
        "embed_dim": tensors[f"{MODEL}out_proj.weight"].shape[0],
        "text_width": text_width,
        "context_length": tensors[f"{MODEL}positional_embedding"].shape[1] - EXTRA_TOKENS,
        "width": width,
        "layers": count_numbers(tensors, f"{MODEL}transformer.resblocks."),
        "heads": width // HEAD_WIDTH,
        "mlp_ratio": mlp_ratio(mlp, width),
    }


def prior_rules(fields: Mapping[str, Any]) -> list[Rule]:
    """Returns the rules of the prior."""
    return [
        Rule("positional_embedding", f"{MODEL}positional_embedding", "1 l d -> l d"),
        Rule("query", f"{MODEL}prd_emb", "1 1 d -> d"),
        *dense("time_embedding/linear_1", f"{MODEL}time_embed.0"),
        *dense("time_embedding/linear_2", f"{MODEL}time_embed.2"),
        *dense("sequence_projection", f"{MODEL}text_enc_proj"),
        *dense("text_projection", f"{MODEL}text_emb_proj"),
        *dense("image_projection", f"{MODEL}clip_img_proj"),
        *transformer_rules("transformer", f"{MODEL}transformer", layers=fields["layers"], heads=fields["heads"]),
        *norm("norm_out", f"{MODEL}final_ln"),
        *dense("projection_out", f"{MODEL}out_proj"),
    ]


def statistics(tensors: Mapping[str, LazyTensor]) -> EmbeddingStatistics:
    """Returns the embedding statistics.

    Args:
      tensors: The tensors of ViT-L-14_stats.th, "0" (mean) and "1" (standard deviation).
    """
    return read_statistics(tensors, ("0", "1"))


def decoder_fields(tensors: Mapping[str, LazyTensor]) -> dict[str, Any]:
    """Returns the fields of `models.decoder.Decoder`.

    Raises:
      KeyError: If a tensor is missing.
    """
    unet = adm_fields(tensors, image_size=DECODER_SIZE, head_channels=HEAD_WIDTH, source=MODEL)
    context_width, text_width = tensors[f"{MODEL}text_seq_proj.0.weight"].shape
    token_rows, embed_dim = tensors[f"{MODEL}clip_tok_proj.weight"].shape
    return {
        **without(unet, NOT_IN_DECODER),
        "embed_dim": embed_dim,
        "text_width": text_width,
        "context_width": context_width,
        "image_tokens": token_rows // context_width,
    }


def decoder_rules(fields: Mapping[str, Any]) -> list[Rule]:
    """Returns the rules of the decoder."""
    return [
        Rule("null_image", f"{MODEL}cf_param"),
        *dense("image_to_time", f"{MODEL}clip_emb"),
        *dense("text_to_time", f"{MODEL}text_feat_proj"),
        *image_to_tokens(f"{MODEL}clip_tok_proj", fields["image_tokens"]),
        *dense("sequence_to_tokens", f"{MODEL}text_seq_proj.0"),
        *norm("sequence_norm", f"{MODEL}text_seq_proj.1"),
        *adm_rules(fields, source=MODEL, target="unet/"),
    ]


def upsampler_parts(tensors: Mapping[str, LazyTensor]) -> tuple[dict[str, LazyTensor], dict[str, LazyTensor]]:
    """Splits the tensors of an upsampler into those of its two networks.

    Returns:
      The tensors of the network for all sampling steps but the last, and those of the network for the last step. Names
      keep their prefixes.

    Raises:
      ValueError: If a tensor belongs to neither network.
    """
    first, last = (
        {name: tensor for name, tensor in tensors.items() if name.startswith(prefix)}
        for prefix in (UPSAMPLER_FIRST, UPSAMPLER_LAST)
    )
    unexpected = sorted(tensors.keys() - first.keys() - last.keys())
    if unexpected:
        raise ValueError(f"Tensors that belong to neither network of Karlo's upsampler: {', '.join(unexpected)}.")
    return first, last


def upsampler_fields(tensors: Mapping[str, LazyTensor], *, source: str = UPSAMPLER_FIRST) -> dict[str, Any]:
    """Returns the fields of `models.upsampler.Upsampler`.

    Args:
      tensors: The tensors of one or both networks.
      source: Prefix of the network, UPSAMPLER_FIRST or UPSAMPLER_LAST.

    Raises:
      KeyError: If a tensor is missing.
    """
    return without(adm_fields(tensors, image_size=UPSAMPLER_SIZE, source=source), NOT_IN_UPSAMPLER)


def upsampler_rules(fields: Mapping[str, Any], *, source: str = UPSAMPLER_FIRST) -> list[Rule]:
    """Returns the rules of one network of an upsampler.

    Args:
      fields: Fields of `models.upsampler.Upsampler`.
      source: Prefix of the network, UPSAMPLER_FIRST or UPSAMPLER_LAST.
    """
    return adm_rules(fields, source=source, target="unet/")


def image_to_tokens(source: str, tokens: int) -> list[Rule]:
    """Returns the rules of the projection of an image embedding to tokens.

    Args:
      source: Published name of the layer. Its rows are ordered [channel][token].
      tokens: Number of tokens.
    """
    return [
        Rule("image_to_tokens/kernel", f"{source}.weight", "(d t) e -> e d t", {"t": tokens}),
        Rule("image_to_tokens/bias", f"{source}.bias", "(d t) -> d t", {"t": tokens}),
    ]


def read_statistics(tensors: Mapping[str, LazyTensor], names: tuple[str, str]) -> EmbeddingStatistics:
    """Returns embedding statistics as float32.

    Args:
      tensors: Tensors that include the statistics.
      names: Names of the mean and the standard deviation.
    """
    mean, std = (np.asarray(tensors[name].read(), np.float32).reshape(-1) for name in names)
    return EmbeddingStatistics(mean=mean, std=std)


def without(fields: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    """Returns all fields except those with the given names."""
    return {name: value for name, value in fields.items() if name not in names}
