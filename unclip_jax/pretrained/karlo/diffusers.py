"""Karlo's networks in the layout of diffusers.

Each folder contains a configuration. All except the schedulers also contain weights:

    prior                              PriorTransformer: models.diffusion_prior and its embedding statistics
    decoder, text_proj                 UNet2DConditionModel, UnCLIPTextProjModel: together models.decoder
    super_res_first, super_res_last    UNet2DModel: models.upsampler for all steps but the last, and for the last step
    *_scheduler                        UnCLIPScheduler: the diffusion settings of a stage
"""

from collections.abc import Mapping
from typing import Any

from unclip_jax.diffusion.spec import DiffusionSpec
from unclip_jax.models.diffusion_prior import EXTRA_TOKENS
from unclip_jax.pretrained.karlo.original import (
    NOT_IN_DECODER,
    NOT_IN_UPSAMPLER,
    image_to_tokens,
    read_statistics,
    without,
)
from unclip_jax.pretrained.layer_rules import dense, heads_out, norm, separate_heads
from unclip_jax.pretrained.lazy_tensor import LazyTensor
from unclip_jax.pretrained.rules import Rule
from unclip_jax.pretrained.unet_layouts.diffusers import check_config, diffusers_unet_fields, diffusers_unet_rules
from unclip_jax.stages.embedding_statistics import EmbeddingStatistics

DECODER, TEXT_PROJ = "decoder.", "text_proj."  # prefixes of the tensors of the two folders
STATISTICS = ("clip_mean", "clip_std")
# Values of diffusers' configurations, with the values of DiffusionSpec that they correspond to.
PREDICTS = {"sample": "x0", "epsilon": "eps"}
VARIANCES = {"fixed_small_log": "fixed_small", "learned_range": "learned_range"}
PRIOR_REQUIRED = {
    "additional_embeddings": EXTRA_TOKENS,
    "time_embed_act_fn": "silu",
    "norm_in_type": None,
    "embedding_proj_norm_type": None,
    "encoder_hid_proj_type": "linear",
    "added_emb_type": "prd",
}


def prior_fields(config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the fields of `DiffusionPrior`.

    Args:
      config: Content of the config.json of a PriorTransformer.

    Raises:
      ValueError: If `DiffusionPrior` cannot represent the network.
    """
    width, embed_dim = config["num_attention_heads"] * config["attention_head_dim"], config["embedding_dim"]
    widths = {"time_embed_dim": width, "embedding_proj_dim": embed_dim, "clip_embed_dim": embed_dim}
    required = {key: width for key, width in widths.items() if config.get(key) is not None}
    check_config(config, PRIOR_REQUIRED | required)
    return {
        "embed_dim": embed_dim,
        "text_width": embed_dim,
        "context_length": config["num_embeddings"],
        "width": width,
        "layers": config["num_layers"],
        "heads": config["num_attention_heads"],
    }


def prior_rules(fields: Mapping[str, Any]) -> list[Rule]:
    """Returns the rules of a PriorTransformer, except for its embedding statistics."""
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
        *norm(f"{blocks}/norm_2", f"{block}.norm3", layers),  # norm2 belongs to cross-attention
        *separate_heads(f"{blocks}/attention/qkv", qkv, heads, layers),
        *heads_out(f"{blocks}/attention/out", f"{block}.attn1.to_out.0", heads, layers),
        *dense(f"{blocks}/mlp_in", f"{block}.ff.net.0.proj", layers),
        *dense(f"{blocks}/mlp_out", f"{block}.ff.net.2", layers),
        *norm("norm_out", "norm_out"),
        *dense("projection_out", "proj_to_clip_embeddings"),
    ]


def prior_parts(tensors: Mapping[str, LazyTensor]) -> tuple[dict[str, LazyTensor], EmbeddingStatistics]:
    """Splits the tensors of a PriorTransformer into those of the network and the embedding statistics."""
    network = {name: tensor for name, tensor in tensors.items() if name not in STATISTICS}
    return network, read_statistics(tensors, STATISTICS)


def decoder_tensors(decoder: Mapping[str, LazyTensor], text_proj: Mapping[str, LazyTensor]) -> dict[str, LazyTensor]:
    """Returns the tensors of both folders, with the folder names as prefixes."""
    return {
        **{f"{DECODER}{name}": tensor for name, tensor in decoder.items()},
        **{f"{TEXT_PROJ}{name}": tensor for name, tensor in text_proj.items()},
    }


def decoder_fields(decoder: Mapping[str, Any], text_proj: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the fields of `Decoder`.

    Args:
      decoder: Content of the config.json of the decoder.
      text_proj: Content of the config.json of text_proj.

    Raises:
      ValueError: If `Decoder` cannot represent the network, or if the widths of the two parts do not match.
    """
    check_config(decoder, {"class_embed_type": "identity"})
    unet = diffusers_unet_fields(decoder)
    check_config(text_proj, {"cross_attention_dim": unet["context_width"], "time_embed_dim": 4 * unet["channels"]})
    return {
        **without(unet, NOT_IN_DECODER),
        "embed_dim": text_proj["clip_embeddings_dim"],
        "text_width": text_proj["clip_embeddings_dim"],
        "context_width": unet["context_width"],
        "image_tokens": text_proj["clip_extra_context_tokens"],
    }


def decoder_rules(fields: Mapping[str, Any]) -> list[Rule]:
    """Returns the rules of a decoder, for the names of `decoder_tensors`."""
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
    """Returns the fields of `Upsampler`.

    Args:
      config: Content of the config.json of super_res_first or super_res_last.

    Raises:
      ValueError: If `Upsampler` cannot represent the network.
    """
    unet = diffusers_unet_fields(config)
    for name, required in (("attention_resolutions", ()), ("num_classes", None), ("resblock_updown", True)):
        if unet[name] != required:
            raise ValueError(f"{name} of the upsampler must be {required}, got {unet[name]}.")
    return without(unet, NOT_IN_UPSAMPLER)


def upsampler_rules(fields: Mapping[str, Any]) -> list[Rule]:
    """Returns the rules of one network of an upsampler."""
    return diffusers_unet_rules(fields, target="unet/")


def diffusion_spec(config: Mapping[str, Any], where: str) -> DiffusionSpec:
    """Returns the diffusion settings of an UnCLIPScheduler.

    Args:
      config: Content of scheduler_config.json.
      where: The file, for the error message.

    Raises:
      ValueError: If the scheduler is not an UnCLIPScheduler, or if a setting is not supported.
    """
    scheduler = config.get("_class_name")
    prediction, variance = config.get("prediction_type", "epsilon"), config.get("variance_type", "fixed_small_log")
    if scheduler != "UnCLIPScheduler" or prediction not in PREDICTS or variance not in VARIANCES:
        raise ValueError(
            f"{where} must be an UnCLIPScheduler with prediction_type {' or '.join(PREDICTS)} and variance_type "
            f"{' or '.join(VARIANCES)}, got {scheduler} with {prediction!r} and {variance!r}."
        )
    return DiffusionSpec(
        schedule="cosine",
        steps=config.get("num_train_timesteps", 1000),
        predicts=PREDICTS[prediction],
        variance=VARIANCES[variance],
        clip_x0=float(config.get("clip_sample_range", 1.0)) if config.get("clip_sample", True) else None,
    )
