"""A cascade's networks in the layout of diffusers' UnCLIPPipeline: what `karlo_diffusers` reads, written.

    prior, decoder, text_proj, super_res_first, super_res_last, text_encoder    config.json, and tensors
    prior_scheduler, decoder_scheduler, super_res_scheduler                      scheduler_config.json

Every configuration is read again by the functions that read published ones: what the layout cannot hold is refused.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from unclip_jax.arrays import PyTree
from unclip_jax.models.diffusion_prior import EXTRA_TOKENS
from unclip_jax.pretrained import karlo_diffusers, karlo_files, openai_clip
from unclip_jax.pretrained.unet_rules import complete, levels_of
from unclip_jax.pretrained.weight_mapping import restore

VERSION = "0.42.1"  # of diffusers, whose layout this is
PREDICTION_TYPES, VARIANCE_TYPES = (
    {ours: theirs for theirs, ours in known.items()} for known in (karlo_files.PREDICTS, karlo_files.VARIANCES)
)
# Of a network's fields: no part of what it computes when it is sampled.
OF_TRAINING = ("dropout", "remat")


@dataclasses.dataclass(frozen=True, eq=False)
class Part:
    """One folder of a pipeline: its configuration, and the tensors, float32, of a part that has any."""

    config: Mapping[str, Any]
    tensors: Mapping[str, np.ndarray] | None = None


def prior_part(fields: Mapping[str, Any], params: PyTree, statistics: Mapping[str, np.ndarray]) -> Part:
    """statistics: `mean` and `std`, "E", of the embeddings that the prior works on."""
    config = {
        "_class_name": "PriorTransformer",
        "num_attention_heads": fields["heads"],
        "attention_head_dim": fields["width"] // fields["heads"],
        "num_layers": fields["layers"],
        "embedding_dim": fields["embed_dim"],
        "num_embeddings": fields["context_length"],
        "additional_embeddings": EXTRA_TOKENS,
    }
    _check("the prior", fields, karlo_diffusers.prior_fields(config) | {"mlp_ratio": 4.0, "activation": "gelu"})
    tensors = restore(params, karlo_diffusers.prior_rules(fields))
    held = {name: statistics[kind][None] for name, kind in zip(karlo_diffusers.STATISTICS, ("mean", "std"))}
    return Part(_diffusers(config), tensors | held)


def decoder_parts(fields: Mapping[str, Any], params: PyTree) -> tuple[Part, Part]:
    """decoder and text_proj."""
    unet = {
        "_class_name": "UNet2DConditionModel",
        **_unet_config(fields, "SimpleCrossAttnDownBlock2D", "SimpleCrossAttnUpBlock2D"),
        "mid_block_type": "UNetMidBlock2DSimpleCrossAttn",
        "cross_attention_dim": fields["context_width"],
        "class_embed_type": "identity",
    }
    text_proj = {
        "_class_name": "UnCLIPTextProjModel",
        "clip_extra_context_tokens": fields["image_tokens"],
        "clip_embeddings_dim": fields["embed_dim"],
        "time_embed_dim": 4 * fields["channels"],
        "cross_attention_dim": fields["context_width"],
    }
    _check("the decoder", fields, karlo_diffusers.decoder_fields(unet, text_proj))
    tensors = restore(params, karlo_diffusers.decoder_rules(fields))
    parts = (
        {name.removeprefix(source): array for name, array in tensors.items() if name.startswith(source)}
        for source in (karlo_diffusers.DECODER, karlo_diffusers.TEXT_PROJ)
    )
    return tuple(Part(_diffusers(config), part) for config, part in zip((unet, text_proj), parts, strict=True))


def upsampler_part(fields: Mapping[str, Any], params: PyTree) -> Part:
    config = {
        "_class_name": "UNet2DModel",
        **_unet_config(fields, "AttnDownBlock2D", "AttnUpBlock2D"),
        "add_attention": False,
    }
    _check("the upsampler", fields, karlo_diffusers.upsampler_fields(config))
    return Part(_diffusers(config), restore(params, karlo_diffusers.upsampler_rules(fields)))


def scheduler_part(stage: str, diffusion: Mapping[str, Any]) -> Part:
    """An UnCLIPScheduler. Raises ValueError for a stage whose diffusion it does not know."""
    known = {"schedule": ("cosine",), "predicts": tuple(PREDICTION_TYPES), "variance": tuple(VARIANCE_TYPES)}
    for name, values in known.items():
        if diffusion[name] not in values:
            raise ValueError(
                f"{stage} has {name} {diffusion[name]!r}, and diffusers' UnCLIPScheduler knows {' and '.join(values)} "
                "alone; train it on with another config.diffusion"
            )
    config = {
        "_class_name": "UnCLIPScheduler",
        "num_train_timesteps": diffusion["steps"],
        "variance_type": VARIANCE_TYPES[diffusion["variance"]],
        "clip_sample": diffusion["clip_x0"] is not None,
        "clip_sample_range": diffusion["clip_x0"],
        "prediction_type": PREDICTION_TYPES[diffusion["predicts"]],
        "beta_schedule": "squaredcos_cap_v2",
    }
    return Part(_diffusers(config))


def text_encoder_part(fields: Mapping[str, Any], params: PyTree) -> Part:
    """CLIP's text tower as CLIPTextModelWithProjection."""
    config = {"architectures": ["CLIPTextModelWithProjection"], **_text_config(fields)}
    rules = openai_clip.hugging_face_rules({**fields, "image_width": None})
    return Part(config, restore({"text": params["text"]}, rules))


def clip_part(fields: Mapping[str, Any], params: PyTree) -> Part:
    """Both towers as CLIPModel. Raises ValueError where there is no image tower."""
    if fields["image_width"] is None:
        raise ValueError("CLIP has no image tower here; as a text encoder it is part of a pipeline's folder")
    config = {
        "architectures": ["CLIPModel"],
        "model_type": "clip",
        "projection_dim": fields["embed_dim"],
        "text_config": _text_config(fields),
        "vision_config": {
            "model_type": "clip_vision_model",
            "image_size": fields["image_size"],
            "patch_size": fields["patch_size"],
            **_tower_config(fields, "image"),
        },
    }
    return Part(config, restore(params, openai_clip.hugging_face_rules(fields)))


def pipeline_index(names: Sequence[str]) -> dict[str, Any]:
    """model_index.json of a pipeline with these folders."""
    # Under its class's own module name diffusers does not find the text projection, not even in folders of its own.
    text_proj = ["diffusers.pipelines.deprecated.unclip.text_proj", "UnCLIPTextProjModel"]
    classes = {
        "prior": ["diffusers", "PriorTransformer"],
        "decoder": ["diffusers", "UNet2DConditionModel"],
        "text_proj": text_proj,
        "super_res_first": ["diffusers", "UNet2DModel"],
        "super_res_last": ["diffusers", "UNet2DModel"],
        "text_encoder": ["transformers", "CLIPTextModelWithProjection"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        **dict.fromkeys(
            ("prior_scheduler", "decoder_scheduler", "super_res_scheduler"), ["diffusers", "UnCLIPScheduler"]
        ),
    }
    return _diffusers({"_class_name": "UnCLIPPipeline", **{name: classes[name] for name in names}})


def _text_config(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "model_type": "clip_text_model",
        "vocab_size": fields["vocab_size"],
        "max_position_embeddings": fields["context_length"],
        **_tower_config(fields, "text"),
        "bos_token_id": fields["vocab_size"] - 2,
        "eos_token_id": fields["vocab_size"] - 1,
        "pad_token_id": 0,
    }


def _tower_config(fields: Mapping[str, Any], tower: str) -> dict[str, Any]:
    width = fields[f"{tower}_width"]
    return {
        "hidden_size": width,
        "intermediate_size": int(width * fields[f"{tower}_mlp_ratio"]),
        "num_hidden_layers": fields[f"{tower}_layers"],
        "num_attention_heads": fields[f"{tower}_heads"],
        "hidden_act": fields["activation"],
        "projection_dim": fields["embed_dim"],
    }


def _unet_config(fields: Mapping[str, Any], down: str, up: str) -> dict[str, Any]:
    """What UNet2DModel and UNet2DConditionModel have in common. down, up: the blocks of levels with attention."""
    fields = complete(fields)
    widths, _, attentive, _ = levels_of(fields)
    return {
        "sample_size": fields["image_size"],
        "in_channels": fields["in_channels"],
        "out_channels": fields["out_channels"],
        "block_out_channels": widths,
        "layers_per_block": fields["res_blocks"],
        "norm_num_groups": fields["groups"],
        "down_block_types": [down if attends else "ResnetDownsampleBlock2D" for attends in attentive],
        "up_block_types": [up if attends else "ResnetUpsampleBlock2D" for attends in reversed(attentive)],
        "attention_head_dim": fields["head_channels"],
        "resnet_time_scale_shift": "scale_shift" if fields["scale_shift"] else "default",
    }


def _check(what: str, fields: Mapping[str, Any], held: Mapping[str, Any]) -> None:
    """Raises ValueError, with the field, where the layout holds another network than the one with these fields."""
    for name, value in fields.items():
        value = tuple(value) if isinstance(value, list) else value
        if name not in OF_TRAINING and name in held and held[name] != value:
            raise ValueError(f"{what} has {name} {value!r}, and diffusers' layout can only hold {held[name]!r}")


def _diffusers(config: Mapping[str, Any]) -> dict[str, Any]:
    return {**config, "_diffusers_version": VERSION}
