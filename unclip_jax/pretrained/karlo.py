"""Karlo's published networks (Kakao Brain, v1.0.alpha) in Karlo's own names.

    prior-ckpt-*.ckpt          models.diffusion_prior, which works on embeddings standardised by ViT-L-14_stats.th
    decoder-ckpt-*.ckpt        models.decoder
    improved-sr-ckpt-*.ckpt    models.upsampler twice: for all steps but the last, and for the last

A .ckpt has its tensors under "state_dict."; the functions here take what lies below it (`layer_rules.below`).
Kandinsky 2.1's prior has the same names and is the same network.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from unclip_jax.models.diffusion_prior import EXTRA_TOKENS
from unclip_jax.pretrained.adm_unet import adm_fields, adm_rules
from unclip_jax.pretrained.layer_rules import count_numbers, dense, mlp_ratio, norm
from unclip_jax.pretrained.openai_transformer import openai_transformer_rules
from unclip_jax.pretrained.stored_tensor import StoredTensor
from unclip_jax.pretrained.weight_mapping import Rule

MODEL = "model."  # stands before the names of the prior and the decoder
UPSAMPLER_FIRST, UPSAMPLER_LAST = "model_first_steps.", "model_last_step."
# Fields of UNet that the networks here settle themselves.
NOT_DECODERS = ("context_width", "num_classes", "resblock_updown")
NOT_UPSAMPLERS = (*NOT_DECODERS, "attention_resolutions", "head_channels", "num_heads")


def prior_fields(tensors: Mapping[str, StoredTensor], *, head_width: int = 64) -> dict[str, Any]:
    """The fields of `models.diffusion_prior.DiffusionPrior`. head_width: shapes do not tell it; the default is Karlo's.

    Raises KeyError, as the functions below, for a tensor that Karlo's network has and these have not.
    """
    width, text_width = tensors[f"{MODEL}text_enc_proj.weight"].shape
    mlp = tensors[f"{MODEL}transformer.resblocks.0.mlp.c_fc.weight"].shape[0]
    return {
        "embed_dim": tensors[f"{MODEL}out_proj.weight"].shape[0],
        "text_width": text_width,
        "context_length": tensors[f"{MODEL}positional_embedding"].shape[1] - EXTRA_TOKENS,
        "width": width,
        "layers": count_numbers(tensors, f"{MODEL}transformer.resblocks."),
        "heads": width // head_width,
        "mlp_ratio": mlp_ratio(mlp, width),
    }


def prior_rules(fields: Mapping[str, Any]) -> list[Rule]:
    """The prior's parameters from Karlo's tensors."""
    transformer = openai_transformer_rules(
        "transformer", f"{MODEL}transformer", layers=fields["layers"], heads=fields["heads"]
    )
    return [
        Rule("positional_embedding", f"{MODEL}positional_embedding", "1 l d -> l d"),
        Rule("query", f"{MODEL}prd_emb", "1 1 d -> d"),
        *dense("time_embedding/linear_1", f"{MODEL}time_embed.0"),
        *dense("time_embedding/linear_2", f"{MODEL}time_embed.2"),
        *dense("sequence_projection", f"{MODEL}text_enc_proj"),
        *dense("text_projection", f"{MODEL}text_emb_proj"),
        *dense("image_projection", f"{MODEL}clip_img_proj"),
        *transformer,
        *norm("norm_out", f"{MODEL}final_ln"),
        *dense("projection_out", f"{MODEL}out_proj"),
    ]


def statistics(tensors: Mapping[str, StoredTensor]) -> dict[str, np.ndarray]:
    """`mean` and `std`, float32 "E", of the embeddings that the prior works on: the file ViT-L-14_stats.th.

    It holds a pair, whose tensors `open_tensors` names "0" and "1".
    """
    return standardisation(tensors, ("0", "1"))


def decoder_fields(
    tensors: Mapping[str, StoredTensor], *, image_size: int = 64, head_channels: int = 64, groups: int = 32
) -> dict[str, Any]:
    """The fields of `models.decoder.Decoder`. The arguments are what shapes do not tell; the defaults are Karlo's."""
    unet = adm_fields(tensors, image_size=image_size, head_channels=head_channels, groups=groups, source=MODEL)
    context_width, text_width = tensors[f"{MODEL}text_seq_proj.0.weight"].shape
    token_rows, embed_dim = tensors[f"{MODEL}clip_tok_proj.weight"].shape
    return {
        **without(unet, NOT_DECODERS),
        "embed_dim": embed_dim,
        "text_width": text_width,
        "context_width": context_width,
        "image_tokens": token_rows // context_width,
    }


def decoder_rules(fields: Mapping[str, Any]) -> list[Rule]:
    """The decoder's parameters from Karlo's tensors."""
    return [
        Rule("null_image", f"{MODEL}cf_param"),
        *dense("image_to_time", f"{MODEL}clip_emb"),
        *dense("text_to_time", f"{MODEL}text_feat_proj"),
        *image_to_tokens(f"{MODEL}clip_tok_proj", fields["image_tokens"]),
        *dense("sequence_to_tokens", f"{MODEL}text_seq_proj.0"),
        *norm("sequence_norm", f"{MODEL}text_seq_proj.1"),
        *adm_rules(fields, source=MODEL, target="unet/"),
    ]


def upsampler_parts(tensors: Mapping[str, StoredTensor]) -> tuple[dict[str, StoredTensor], dict[str, StoredTensor]]:
    """The tensors of the network for all steps but the last, and of that for the last, with their whole names.

    Raises ValueError for a tensor of neither.
    """
    first, last = (
        {name: tensor for name, tensor in tensors.items() if name.startswith(prefix)}
        for prefix in (UPSAMPLER_FIRST, UPSAMPLER_LAST)
    )
    strays = sorted(tensors.keys() - first.keys() - last.keys())
    if strays:
        raise ValueError(f"of neither network of Karlo's upsampler: {', '.join(strays)}")
    return first, last


def upsampler_fields(
    tensors: Mapping[str, StoredTensor], *, source: str = UPSAMPLER_FIRST, image_size: int = 256, groups: int = 32
) -> dict[str, Any]:
    """The fields of `models.upsampler.Upsampler`.

    source: UPSAMPLER_FIRST or UPSAMPLER_LAST.  image_size, groups: shapes do not tell them; the defaults are Karlo's.
    """
    return without(adm_fields(tensors, image_size=image_size, groups=groups, source=source), NOT_UPSAMPLERS)


def upsampler_rules(fields: Mapping[str, Any], *, source: str = UPSAMPLER_FIRST) -> list[Rule]:
    """The parameters of one of the upsampler's networks from Karlo's tensors. source: as in the fields."""
    return adm_rules(fields, source=source, target="unet/")


def image_to_tokens(source: str, tokens: int) -> list[Rule]:
    """The token is the fastest index of the published rows."""
    return [
        Rule("image_to_tokens/kernel", f"{source}.weight", "(d t) e -> e d t", {"t": tokens}),
        Rule("image_to_tokens/bias", f"{source}.bias", "(d t) -> d t", {"t": tokens}),
    ]


def standardisation(tensors: Mapping[str, StoredTensor], names: tuple[str, str]) -> dict[str, np.ndarray]:
    """Mean and deviation from the tensors of these names, as a cascade keeps them."""
    return {
        name: np.asarray(tensors[published].read(), np.float32).reshape(-1)
        for name, published in zip(("mean", "std"), names, strict=True)
    }


def without(fields: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    """The fields but those of these names."""
    return {name: value for name, value in fields.items() if name not in names}
