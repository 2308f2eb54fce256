"""Export of Karlo's stages in the layout of diffusers' UnCLIPPipeline, the inverse of `diffusers`.

    prior, decoder, text_proj, super_res_first, super_res_last       config.json and tensors
    prior_scheduler, decoder_scheduler, super_res_scheduler          scheduler_config.json

Every configuration is read again by the import functions of `diffusers` and compared with the original fields. Networks
that the layout cannot represent are therefore rejected.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from unclip_jax.arrays import PyTree
from unclip_jax.diffusion.spec import DiffusionSpec
from unclip_jax.models.diffusion_prior import EXTRA_TOKENS
from unclip_jax.pretrained.exported import Part
from unclip_jax.pretrained.karlo import diffusers
from unclip_jax.pretrained.layer_rules import with_prefix
from unclip_jax.pretrained.rules import export_tensors
from unclip_jax.pretrained.unet_rules import complete, levels_of
from unclip_jax.stages.embedding_statistics import EmbeddingStatistics

VERSION = "0.42.1"  # version of diffusers with which the layout is tested
PREDICTION_TYPES, VARIANCE_TYPES = (
    {ours: theirs for theirs, ours in names.items()} for names in (diffusers.PREDICTS, diffusers.VARIANCES)
)
TRAINING_FIELDS = ("dropout", "remat")  # fields without effect on sampling


def prior_part(fields: Mapping[str, Any], params: PyTree, statistics: EmbeddingStatistics) -> Part:
    """Returns a prior as PriorTransformer.

    Args:
      fields: Fields of `DiffusionPrior`.
      params: Its parameters.
      statistics: Its embedding statistics.

    Raises:
      ValueError: If the layout cannot represent the network.
    """
    config = {
        "_class_name": "PriorTransformer",
        "num_attention_heads": fields["heads"],
        "attention_head_dim": fields["width"] // fields["heads"],
        "num_layers": fields["layers"],
        "embedding_dim": fields["embed_dim"],
        "num_embeddings": fields["context_length"],
        "additional_embeddings": EXTRA_TOKENS,
    }
    _check("prior", fields, diffusers.prior_fields(config) | {"mlp_ratio": 4.0, "activation": "gelu"})
    tensors = export_tensors(params, diffusers.prior_rules(fields))
    mean, std = diffusers.STATISTICS
    return Part(_with_version(config), tensors | {mean: statistics.mean[None], std: statistics.std[None]})


def decoder_parts(fields: Mapping[str, Any], params: PyTree) -> tuple[Part, Part]:
    """Returns a decoder as UNet2DConditionModel and UnCLIPTextProjModel.

    Args:
      fields: Fields of `Decoder`.
      params: Its parameters.

    Raises:
      ValueError: If the layout cannot represent the network.
    """
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
    _check("decoder", fields, diffusers.decoder_fields(unet, text_proj))
    tensors = export_tensors(params, diffusers.decoder_rules(fields))
    return (
        Part(_with_version(unet), with_prefix(tensors, diffusers.DECODER)),
        Part(_with_version(text_proj), with_prefix(tensors, diffusers.TEXT_PROJ)),
    )


def upsampler_part(fields: Mapping[str, Any], params: PyTree) -> Part:
    """Returns one network of an upsampler as UNet2DModel.

    Args:
      fields: Fields of `Upsampler`.
      params: Its parameters.

    Raises:
      ValueError: If the layout cannot represent the network.
    """
    config = {
        "_class_name": "UNet2DModel",
        **_unet_config(fields, "AttnDownBlock2D", "AttnUpBlock2D"),
        "add_attention": False,
    }
    _check("upsampler", fields, diffusers.upsampler_fields(config))
    return Part(_with_version(config), export_tensors(params, diffusers.upsampler_rules(fields)))


def scheduler_part(stage: str, diffusion: DiffusionSpec) -> Part:
    """Returns the diffusion settings of a stage as UnCLIPScheduler.

    Args:
      stage: Name of the stage, for the error message.
      diffusion: Its diffusion settings.

    Raises:
      ValueError: If UnCLIPScheduler does not support a setting.
    """
    known = {"schedule": ("cosine",), "predicts": tuple(PREDICTION_TYPES), "variance": tuple(VARIANCE_TYPES)}
    for name, values in known.items():
        value = getattr(diffusion, name)
        if value not in values:
            raise ValueError(
                f"{name} of {stage} must be {' or '.join(values)} for diffusers' UnCLIPScheduler, got {value!r}. "
                "Fine-tune the stage with another config.diffusion."
            )
    config = {
        "_class_name": "UnCLIPScheduler",
        "num_train_timesteps": diffusion.steps,
        "variance_type": VARIANCE_TYPES[diffusion.variance],
        "clip_sample": diffusion.clip_x0 is not None,
        "clip_sample_range": diffusion.clip_x0,
        "prediction_type": PREDICTION_TYPES[diffusion.predicts],
        "beta_schedule": "squaredcos_cap_v2",
    }
    return Part(_with_version(config))


def pipeline_index(names: Sequence[str]) -> dict[str, Any]:
    """Returns the content of model_index.json.

    Args:
      names: Names of the pipeline's folders.
    """
    # diffusers finds the text projection only under the full path of its module.
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
    return _with_version({"_class_name": "UnCLIPPipeline", **{name: classes[name] for name in names}})


def _unet_config(fields: Mapping[str, Any], down: str, up: str) -> dict[str, Any]:
    """Returns the settings of a diffusers U-Net, given the types of its blocks with attention."""
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


def _check(network: str, fields: Mapping[str, Any], represented: Mapping[str, Any]) -> None:
    """Checks that the fields are equal to those that the exported configuration represents."""
    for name, value in fields.items():
        value = tuple(value) if isinstance(value, list) else value
        if name not in TRAINING_FIELDS and name in represented and represented[name] != value:
            raise ValueError(
                f"{name} of the {network} must be {represented[name]!r} for export to diffusers, got {value!r}."
            )


def _with_version(config: Mapping[str, Any]) -> dict[str, Any]:
    return {**config, "_diffusers_version": VERSION}
