"""CLIP in the layout of OpenCLIP: OpenAI's tensor names and open_clip_config.json."""

from collections.abc import Mapping
from typing import Any

from unclip_jax.pretrained.clip.openai import HEAD_WIDTH, openai_fields
from unclip_jax.pretrained.lazy_tensor import LazyTensor

# Supported settings of each section. The settings of the second set have no effect on embeddings.
KNOWN = {
    "model_cfg": ({"embed_dim", "vision_cfg", "text_cfg", "quick_gelu"}, {"init_logit_scale", "custom_text"}),
    "vision_cfg": ({"image_size", "layers", "width", "head_width", "mlp_ratio", "patch_size"}, {"patch_dropout"}),
    "text_cfg": ({"context_length", "vocab_size", "width", "heads", "layers", "mlp_ratio"}, {"hf_tokenizer_name"}),
}


def check_config(config: Mapping[str, Any], where: str) -> None:
    """Checks that a configuration only has supported settings.

    Args:
      config: Content of open_clip_config.json.
      where: The file, for the error message.

    Raises:
      ValueError: If an unsupported setting has a value.
    """
    model = config.get("model_cfg", {})
    sections = {"model_cfg": model, "vision_cfg": model.get("vision_cfg", {}), "text_cfg": model.get("text_cfg", {})}
    for name, section in sections.items():
        unknown = [key for key, value in section.items() if value and key not in set.union(*KNOWN[name])]
        if unknown:
            raise ValueError(
                f"Unsupported settings in {name} of {where}: {', '.join(sorted(unknown))}. Only models with the "
                "architecture of OpenAI's CLIP can be loaded."
            )


def open_clip_fields(tensors: Mapping[str, LazyTensor], config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the fields of `models.clip.CLIP`.

    Args:
      tensors: The tensors of both encoders.
      config: Content of open_clip_config.json.

    Raises:
      KeyError: If a tensor or a required setting is missing.
    """
    model = config["model_cfg"]
    return openai_fields(
        tensors,
        image_head_width=model["vision_cfg"].get("head_width", HEAD_WIDTH),
        text_heads=model["text_cfg"]["heads"],
        activation="quick_gelu" if model.get("quick_gelu") else "gelu",
    )
