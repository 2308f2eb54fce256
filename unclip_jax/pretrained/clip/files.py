"""Files of published CLIP models.

Three layouts are supported:

    Hugging Face   config.json, model.safetensors or pytorch_model.bin (or several files with an index), a tokenizer
    OpenCLIP       open_clip_config.json, open_clip_model.safetensors or open_clip_pytorch_model.bin, a tokenizer
    OpenAI         one TorchScript file, without a tokenizer
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from etils import epath

from unclip_jax.files import read_json
from unclip_jax.images import CLIP_MEAN, CLIP_STD
from unclip_jax.pretrained.clip.hugging_face import hugging_face_fields, hugging_face_rules, without_position_ids
from unclip_jax.pretrained.clip.open_clip import check_config, open_clip_fields
from unclip_jax.pretrained.clip.openai import openai_fields, openai_rules
from unclip_jax.pretrained.family import Source, WeightFamily
from unclip_jax.pretrained.hub import OPEN_CLIP_CONFIG
from unclip_jax.pretrained.lazy_tensor import LazyTensor
from unclip_jax.pretrained.published import Published, PublishedStage, Weights, tokenizer_in
from unclip_jax.pretrained.rules import Rule
from unclip_jax.pretrained.tensor_files import open_folder
from unclip_jax.stages.spec import StageSpec

TOKENIZER = "openai/clip-vit-large-patch14"
MODEL_TYPE = "clip"  # in config.json of Hugging Face's layout
OPENAI_BUFFERS = ("input_resolution", "context_length", "vocab_size")


def matches(source: Source) -> bool:
    """Returns whether a source is a CLIP model."""
    return _is_open_clip(source) or _is_hugging_face(source) or "visual.conv1.weight" in source.tensors


def open_model(source: Source) -> Published:
    """Opens a CLIP model in any of the three layouts.

    Raises:
      ValueError: If the architecture is not that of OpenAI's CLIP with a ViT, or if the files do not determine it.
    """
    if _is_open_clip(source):
        return _open_open_clip(source.path)
    if _is_hugging_face(source):
        return _open_hugging_face(source.path)
    return _open_openai(source)


FAMILY = WeightFamily(
    name="CLIP",
    description="config.json of transformers, open_clip_config.json, or a TorchScript file of OpenAI",
    matches=matches,
    open=open_model,
)


def _is_open_clip(source: Source) -> bool:
    return (source.path / OPEN_CLIP_CONFIG).exists()


def _is_hugging_face(source: Source) -> bool:
    path = source.path / "config.json"
    return path.exists() and read_json(path).get("model_type") == MODEL_TYPE


def _open_hugging_face(folder: epath.Path) -> Published:
    import transformers

    config = transformers.CLIPConfig.from_dict(read_json(folder / "config.json"))
    _check_preprocessing(folder / "preprocessor_config.json", "image_mean", "image_std")
    tensors = without_position_ids(open_folder(folder, ("model", "pytorch_model")))
    fields = hugging_face_fields(config.text_config, config.vision_config, config.projection_dim)
    return _published("Hugging Face's", fields, tensors, hugging_face_rules(fields), folder)


def _open_open_clip(folder: epath.Path) -> Published:
    config = read_json(folder / OPEN_CLIP_CONFIG)
    check_config(config, repr(str(folder / OPEN_CLIP_CONFIG)))
    _check_preprocessing(folder / OPEN_CLIP_CONFIG, "mean", "std", section="preprocess_cfg")
    tensors = open_folder(folder, ("open_clip_model", "open_clip_pytorch_model"))
    fields = open_clip_fields(tensors, config)
    return _published("OpenCLIP's", fields, tensors, openai_rules(fields), folder)


def _open_openai(source: Source) -> Published:
    if not set(OPENAI_BUFFERS) <= source.tensors.keys():
        raise ValueError(
            f"{str(source.path)!r} contains the tensors of an OpenCLIP model, which do not determine the number of "
            f"heads and the activation. Pass the folder that contains the file and its {OPEN_CLIP_CONFIG}."
        )
    tensors = {name: tensor for name, tensor in source.tensors.items() if name not in OPENAI_BUFFERS}
    fields = openai_fields(tensors)
    return _published("OpenAI's", fields, tensors, openai_rules(fields), source.path)


def _check_preprocessing(path: epath.Path, mean: str, std: str, section: str | None = None) -> None:
    """Checks that images are normalized with OpenAI's mean and standard deviation."""
    if not path.exists():
        return
    content = read_json(path)
    content = content.get(section, {}) if section else content
    for name, expected in ((mean, CLIP_MEAN), (std, CLIP_STD)):
        actual = content.get(name, expected)
        if not np.allclose(actual, expected, atol=1e-4):
            raise ValueError(f"{name} in {str(path)!r} must be {list(expected)}, got {list(actual)}.")


def _published(
    publisher: str,
    fields: Mapping[str, Any],
    tensors: Mapping[str, LazyTensor],
    rules: Sequence[Rule],
    path: epath.Path,
) -> Published:
    stage = PublishedStage(StageSpec(name="clip", kind="clip", model=fields), Weights(tensors, rules), str(path))
    tokenizer = tokenizer_in(path if path.is_dir() else path.parent)
    return Published(f"CLIP in {publisher} layout", [stage], tokenizer, tokenizer_name=TOKENIZER)
