"""Karlo's published networks in diffusers' layout, a folder each with config.json and weights.

    prior                              PriorTransformer: models.diffusion_prior, and the statistics it works with
    decoder, text_proj                 UNet2DConditionModel, UnCLIPTextProjModel: together models.decoder
    super_res_first, super_res_last    UNet2DModel: models.upsampler for all steps but the last, and for the last
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from unclip_jax.models.diffusion_prior import EXTRA_TOKENS
from unclip_jax.pretrained.diffusers_config import check_config
from unclip_jax.pretrained.diffusers_unet import diffusers_unet_fields, diffusers_unet_rules
from unclip_jax.pretrained.karlo import NOT_DECODERS, NOT_UPSAMPLERS, image_to_tokens, standardisation, without
from unclip_jax.pretrained.layer_rules import dense, heads_out, norm, separate_heads
from unclip_jax.pretrained.stored_tensor import StoredTensor
from unclip_jax.pretrained.weight_mapping import Rule

DECODER, TEXT_PROJ = "decoder.", "text_proj."  # the folders' names, put before the names of what lies in them
STATISTICS = ("clip_mean", "clip_std")
PRIOR_WANTED = {
    "additional_embeddings": EXTRA_TOKENS,
    "time_embed_act_fn": "silu",
    "norm_in_type": None,
    "embedding_proj_norm_type": None,
    "encoder_hid_proj_type": "linear",
    "added_emb_type": "prd",
}


def prior_fields(config: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of DiffusionPrior for the config.json of a PriorTransformer.

    Raises ValueError for a network that DiffusionPrior cannot be, and says what of it.
    """
    width, embed_dim = config["num_attention_heads"] * config["attention_head_dim"], config["embedding_dim"]
    widths = {"time_embed_dim": width, "embedding_proj_dim": embed_dim, "clip_embed_dim": embed_dim}
    given = {key: wanted for key, wanted in widths.items() if config.get(key) is not None}
    check_config(config, PRIOR_WANTED | given)
    return {
        "embed_dim": embed_dim,
        "text_width": embed_dim,
        "context_length": config["num_embeddings"],
        "width": width,
        "layers": config["num_layers"],
        "heads": config["num_attention_heads"],
    }


def prior_rules(fields: Mapping[str, Any]) -> list[Rule]:
    """The prior's parameters from those of a PriorTransformer, without its statistics."""
    blocks, block = "transformer/blocks", "transformer_blocks.{layer}"
    layers, heads = fields["layers"], fields["heads"]
    qkv = tuple(f"{block}.attn1.to_{part}" for part in "qkv")
    return [
        Rule("positional_embedding", "positional_embedding", "1 l d -> l d"),
        Rule("query", "prd_embedding", "1 1 d -> d"),
        *dense("time_embedding/linear_1", "time_embedding.linear_1"),
        *dense("time_embedding/linear_2", "time_embedding.linear_2"),
        *dense("sequence_projection", "encoder_hidden_states_proj"),
        *dense("text_projection", "embedding_proj"),
        *dense("image_projection", "proj_in"),
        *norm(f"{blocks}/norm_1", f"{block}.norm1", layers),
        *norm(f"{blocks}/norm_2", f"{block}.norm3", layers),  # norm2 is that of a cross attention
        *separate_heads(f"{blocks}/attention/qkv", qkv, heads, layers),
        *heads_out(f"{blocks}/attention/out", f"{block}.attn1.to_out.0", heads, layers),
        *dense(f"{blocks}/mlp_in", f"{block}.ff.net.0.proj", layers),
        *dense(f"{blocks}/mlp_out", f"{block}.ff.net.2", layers),
        *norm("norm_out", "norm_out"),
        *dense("projection_out", "proj_to_clip_embeddings"),
    ]


def prior_parts(
    tensors: Mapping[str, StoredTensor],
) -> tuple[dict[str, StoredTensor], dict[str, np.ndarray]]:
    """The tensors of a PriorTransformer's network, and the statistics that it holds beside them.

    Statistics: `mean` and `std`, float32 "E", of the embeddings that the prior works on.
    """
    network = {name: tensor for name, tensor in tensors.items() if name not in STATISTICS}
    return network, standardisation(tensors, STATISTICS)


def decoder_tensors(
    decoder: Mapping[str, StoredTensor], text_proj: Mapping[str, StoredTensor]
) -> dict[str, StoredTensor]:
    """The tensors of both folders, under the folders' names."""
    return {
        **{f"{DECODER}{name}": tensor for name, tensor in decoder.items()},
        **{f"{TEXT_PROJ}{name}": tensor for name, tensor in text_proj.items()},
    }


def decoder_fields(decoder: Mapping[str, Any], text_proj: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of Decoder for both folders' config.json.

    Raises ValueError for a network that Decoder cannot be, or where the folders do not go together.
    """
    check_config(decoder, {"class_embed_type": "identity"})
    unet = diffusers_unet_fields(decoder)
    check_config(text_proj, {"cross_attention_dim": unet["context_width"], "time_embed_dim": 4 * unet["channels"]})
    return {
        **without(unet, NOT_DECODERS),
        "embed_dim": text_proj["clip_embeddings_dim"],
        "text_width": text_proj["clip_embeddings_dim"],
        "context_width": unet["context_width"],
        "image_tokens": text_proj["clip_extra_context_tokens"],
    }


def decoder_rules(fields: Mapping[str, Any]) -> list[Rule]:
    """The decoder's parameters from `decoder_tensors`."""
    return [
        Rule("null_image", f"{TEXT_PROJ}learned_classifier_free_guidance_embeddings"),
        *dense("image_to_time", f"{TEXT_PROJ}clip_image_embeddings_project_to_time_embeddings"),
        *dense("text_to_time", f"{TEXT_PROJ}embedding_proj"),
        *image_to_tokens(f"{TEXT_PROJ}clip_extra_context_tokens_proj", fields["image_tokens"]),
        *dense("sequence_to_tokens", f"{TEXT_PROJ}encoder_hidden_states_proj"),
        *norm("sequence_norm", f"{TEXT_PROJ}text_encoder_hidden_states_norm"),
        *diffusers_unet_rules(fields, source=DECODER, target="unet/"),
    ]


def upsampler_fields(config: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of Upsampler for super_res_first's or super_res_last's config.json.

    Raises ValueError for a network that Upsampler cannot be, and says what of it.
    """
    unet = diffusers_unet_fields(config)
    for name, wanted in (("attention_resolutions", ()), ("num_classes", None), ("resblock_updown", True)):
        if unet[name] != wanted:
            raise ValueError(f"the upsampler here has {name} {wanted}, and the configuration asks for {unet[name]}")
    return without(unet, NOT_UPSAMPLERS)


def upsampler_rules(fields: Mapping[str, Any]) -> list[Rule]:
    """The parameters of one of the upsampler's networks from those of a UNet2DModel."""
    return diffusers_unet_rules(fields, target="unet/")
