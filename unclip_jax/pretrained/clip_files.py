"""Where a published CLIP lies: a Hugging Face folder, an OpenCLIP folder, or a TorchScript file of OpenAI's.

    Hugging Face   config.json, model.safetensors or pytorch_model.bin (or parts of them with an index), a tokenizer
    OpenCLIP       open_clip_config.json, open_clip_model.safetensors or open_clip_pytorch_model.bin, a tokenizer
    OpenAI         one .pt, which says neither heads nor activation, and has no tokenizer beside it
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from etils import epath

from unclip_jax.files import read_json
from unclip_jax.images import CLIP_MEAN, CLIP_STD
from unclip_jax.pretrained import openai_clip
from unclip_jax.pretrained.hub import OPEN_CLIP_CONFIG
from unclip_jax.pretrained.published import Published, PublishedStage, Weights
from unclip_jax.pretrained.stored_tensor import StoredTensor
from unclip_jax.pretrained.tensor_files import open_tensors
from unclip_jax.stages.spec import StageSpec

OPENAI_BUFFERS = ("input_resolution", "context_length", "vocab_size")
HUGGING_FACE_TYPE = "clip"
TOKENIZER = "openai/clip-vit-large-patch14"
TOKENIZER_FILES = ("vocab.json", "tokenizer.json")
# What of OpenCLIP's configuration the networks here know; the second do nothing when a picture is embedded.
KNOWN = {
    "model_cfg": ({"embed_dim", "vision_cfg", "text_cfg", "quick_gelu"}, {"init_logit_scale", "custom_text"}),
    "vision_cfg": ({"image_size", "layers", "width", "head_width", "mlp_ratio", "patch_size"}, {"patch_dropout"}),
    "text_cfg": ({"context_length", "vocab_size", "width", "heads", "layers", "mlp_ratio"}, {"hf_tokenizer_name"}),
}


def is_hugging_face(folder: epath.Path) -> bool:
    """Returns whether transformers' configuration in a folder is that of a CLIPModel."""
    path = folder / "config.json"
    return path.exists() and read_json(path).get("model_type") == HUGGING_FACE_TYPE


def open_hugging_face(folder: epath.Path) -> Published:
    """A folder that `transformers.CLIPModel.save_pretrained` wrote, or one like it from the hub."""
    import transformers

    config = transformers.CLIPConfig.from_dict(read_json(folder / "config.json"))
    _check_preprocessing(folder / "preprocessor_config.json", "image_mean", "image_std")
    tensors = without_computed(open_folder(folder, ("model", "pytorch_model")))
    fields = openai_clip.hugging_face_fields(config.text_config, config.vision_config, config.projection_dim)
    return _published(
        "CLIP in Hugging Face's layout", fields, tensors, openai_clip.hugging_face_rules(fields), folder
    )


def without_computed(tensors: Mapping[str, StoredTensor]) -> dict[str, StoredTensor]:
    """Without the numbers 0, 1, 2, ... that older files of Hugging Face's hold beside the weights."""
    return {name: tensor for name, tensor in tensors.items() if not name.endswith(".position_ids")}


def open_open_clip(folder: epath.Path) -> Published:
    """A folder with an OpenCLIP model as OpenCLIP pushes it to the hub.

    Raises ValueError for a model that is no CLIP with a ViT, and names what of its configuration is unknown here.
    """
    config = read_json(folder / OPEN_CLIP_CONFIG)
    for name, part in _parts(config).items():
        strange = [key for key, value in part.items() if value and key not in set.union(*KNOWN[name])]
        if strange:
            raise ValueError(
                f"{str(folder / OPEN_CLIP_CONFIG)!r}: {name} has {', '.join(sorted(strange))}, which the CLIP here has "
                "not; towers as OpenAI's, of any size, are read"
            )
    _check_preprocessing(folder / OPEN_CLIP_CONFIG, "mean", "std", within="preprocess_cfg")
    tensors = open_folder(folder, ("open_clip_model", "open_clip_pytorch_model"))
    fields = openai_clip.open_clip_fields(tensors, config)
    return _published("CLIP in OpenCLIP's layout", fields, tensors, openai_clip.openai_rules(fields), folder)


def open_openai(path: epath.Path, tensors: Mapping[str, StoredTensor]) -> Published:
    """The tensors of one of OpenAI's files."""
    tensors = {name: tensor for name, tensor in tensors.items() if name not in OPENAI_BUFFERS}
    fields = openai_clip.openai_fields(
        tensors, image_head_width=openai_clip.OPENAI_HEAD_WIDTH, text_heads=None, activation="quick_gelu"
    )
    return _published("CLIP in OpenAI's layout", fields, tensors, openai_clip.openai_rules(fields), path)


def is_openai(tensors: Mapping[str, StoredTensor]) -> bool:
    return "visual.conv1.weight" in tensors and set(OPENAI_BUFFERS) <= set(tensors)


def open_folder(folder: epath.Path, names: Sequence[str]) -> dict[str, StoredTensor]:
    """The tensors of a folder's weights, in one file or in parts that an index names; safetensors before .bin.

    Args: names: of the files, without suffix, in the order of preference.
    Raises ValueError for a folder without any, and an index that names what is not there.
    """
    candidates = [f"{name}{suffix}" for suffix in (".safetensors", ".bin") for name in names]
    for name in candidates:
        if (folder / name).exists():
            return open_tensors(folder / name)
        if (folder / f"{name}.index.json").exists():
            return _open_parts(folder, f"{name}.index.json")
    raise ValueError(f"{str(folder)!r} has no weights; one of {', '.join(candidates)} is wanted")


def _open_parts(folder: epath.Path, index: str) -> dict[str, StoredTensor]:
    where = read_json(folder / index).get("weight_map", {})
    missing = sorted(part for part in set(where.values()) if not (folder / part).exists())
    if missing or not where:
        raise ValueError(f"{str(folder / index)!r} names {', '.join(missing) or 'no files'}, which the folder lacks")
    parts = {part: open_tensors(folder / part) for part in sorted(set(where.values()))}
    lost = sorted(name for name, part in where.items() if name not in parts[part])
    if lost:
        raise ValueError(f"{str(folder / index)!r} says that {where[lost[0]]} holds {lost[0]}, which it does not")
    return {name: parts[part][name] for name, part in where.items()}


def tokenizer_in(folder: epath.Path) -> epath.Path | None:
    """The folder, where it holds a tokenizer."""
    return folder if any((folder / name).exists() for name in TOKENIZER_FILES) else None


def _parts(config: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    model = config.get("model_cfg", {})
    return {"model_cfg": model, "vision_cfg": model.get("vision_cfg", {}), "text_cfg": model.get("text_cfg", {})}


def _check_preprocessing(path: epath.Path, mean: str, deviation: str, within: str | None = None) -> None:
    """Raises ValueError where pictures are to be normalised otherwise than by OpenAI's statistics."""
    if not path.exists():
        return
    content = read_json(path)
    content = content.get(within, {}) if within else content
    for name, wanted in ((mean, CLIP_MEAN), (deviation, CLIP_STD)):
        found = content.get(name, wanted)
        if not np.allclose(found, wanted, atol=1e-4):
            raise ValueError(f"{str(path)!r}: {name} is {list(found)}; pictures are normalised by {list(wanted)} here")


def _published(family, fields, tensors, rules, source: epath.Path) -> Published:
    stage = PublishedStage(StageSpec(name="clip", kind="clip", model=fields), Weights(tensors, rules), str(source))
    tokenizer = tokenizer_in(source if source.is_dir() else source.parent)
    return Published(family, [stage], tokenizer, tokenizer_name=TOKENIZER)
