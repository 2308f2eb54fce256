"""Opening a tokenizer's folder for a network that reads its tokens."""

from collections.abc import Mapping
from typing import Any

from etils import epath

from unclip_jax.tokenizers.clip_bpe import START, Tokenizer
from unclip_jax.tokenizers.files import FILES, read_bpe
from unclip_jax.tokenizers.gpt2_bpe import GPT2Tokenizer


def open_tokenizer(folder: epath.PathLike, cls: type, model: Mapping[str, Any], *, name: str) -> Any:
    """Opens the tokenizer in `folder` for a network that reads its tokens.

    Args:
      cls: The class of the tokenizer that the network was trained with.
      model: Fields of the network: `context_length`, and `vocab_size` if it has one.
      name: The network, for messages.

    Raises:
      ValueError: If the folder holds no tokenizer, or that of another network.
    """
    if cls in (Tokenizer, GPT2Tokenizer):
        # Both read the same files, but only CLIP's vocabulary marks the start of a text.
        found = Tokenizer if START in read_bpe(epath.Path(folder), FILES[:2])[0] else GPT2Tokenizer
        if found is not cls:
            raise ValueError(
                f"tokenizer {str(folder)!r} is a {found.__name__}, and {name} reads the tokens of a {cls.__name__}; "
                "give the one that it was trained with"
            )
    settings = {} if cls is Tokenizer else {"context_length": model["context_length"]}
    tokenizer = cls.load(folder, **settings)
    for size in ("vocab_size", "context_length"):
        if size in model and model[size] != getattr(tokenizer, size):
            raise ValueError(
                f"tokenizer {str(folder)!r} has {size} {getattr(tokenizer, size)}, and {name} has {model[size]}; give "
                "the one that it was trained with"
            )
    return tokenizer
