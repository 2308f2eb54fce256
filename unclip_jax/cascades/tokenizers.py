"""The tokenizer of a cascade: the one that its networks read."""

from collections.abc import Mapping
from typing import Any

from etils import epath

from unclip_jax.gpt2_tokenizer import GPT2Tokenizer
from unclip_jax.tokenizer import Tokenizer


def open_tokenizer(
    folder: epath.PathLike, stages: Mapping[str, Mapping[str, Any]], *, source: str
) -> Tokenizer | GPT2Tokenizer | None:
    """Opens the tokenizer in `folder` for stages of these configs; None where none of them reads captions.

    `source`: the cascade or model, for messages. Raises ValueError for a tokenizer that is another network's.
    """
    readers = {name: config["model"] for name, config in stages.items() if config["kind"] in ("clip", "glide")}
    if not readers:
        return None
    glide = [config["model"]["context_length"] for config in stages.values() if config["kind"] == "glide"]
    tokenizer = GPT2Tokenizer.load(folder, context_length=glide[0]) if glide else Tokenizer.load(folder)
    for name, fields in readers.items():
        for size in ("vocab_size", "context_length"):
            if size in fields and fields[size] != getattr(tokenizer, size):
                raise ValueError(
                    f"tokenizer {str(folder)!r} has {size} {getattr(tokenizer, size)}, and {name} of {source!r} has "
                    f"{fields[size]}; give the one that it was trained with"
                )
    return tokenizer
