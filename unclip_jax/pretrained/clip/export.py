"""Export of CLIP in the layout of transformers, the inverse of `hugging_face`."""

from collections.abc import Mapping
from typing import Any

from unclip_jax.arrays import PyTree
from unclip_jax.pretrained.clip.hugging_face import hugging_face_rules
from unclip_jax.pretrained.exported import Part
from unclip_jax.pretrained.rules import export_tensors


def text_encoder_part(fields: Mapping[str, Any], params: PyTree) -> Part:
    """Returns the text encoder of a CLIP model as CLIPTextModelWithProjection.

    Args:
      fields: Fields of `models.clip.CLIP`.
      params: Its parameters.
    """
    config = {"architectures": ["CLIPTextModelWithProjection"], **_text_config(fields)}
    rules = hugging_face_rules({**fields, "image_width": None})
    return Part(config, export_tensors({"text": params["text"]}, rules))


def clip_part(fields: Mapping[str, Any], params: PyTree) -> Part:
    """Returns a CLIP model as CLIPModel.

    Args:
      fields: Fields of `models.clip.CLIP`.
      params: Its parameters.

    Raises:
      ValueError: If the model has no image encoder.
    """
    if fields["image_width"] is None:
        raise ValueError("The CLIP model has no image encoder. Export its text encoder with a diffusers pipeline.")
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
    return Part(config, export_tensors(params, hugging_face_rules(fields)))


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
