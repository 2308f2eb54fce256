"""Loading of the tokenizer that matches a network."""

from collections.abc import Mapping
from typing import Any

from etils import epath

from unclip_jax.tokenizers.clip_bpe import START, Tokenizer
from unclip_jax.tokenizers.files import FILES, read_bpe
from unclip_jax.tokenizers.gpt2_bpe import GPT2Tokenizer


def open_tokenizer(folder: epath.PathLike, cls: type, model: Mapping[str, Any], *, name: str) -> Any:
    """Loads a tokenizer folder and checks that it matches a network.

    Args:
      folder: The tokenizer folder.
      cls: Class of the tokenizer that the network was trained with. Its `load` receives the folder and, unless it is
        `Tokenizer`, the keyword argument `context_length`.
      model: Fields of the network: `context_length`, and `vocab_size` if it has one.
      name: Name of the network in error messages.

    Raises:
      ValueError: If the folder does not contain a tokenizer, or contains one that does not match the network.
    """
    if cls in (Tokenizer, GPT2Tokenizer):
        # Both classes read the same files, but only CLIP's vocabulary has a start token.
        found = Tokenizer if START in read_bpe(epath.Path(folder), FILES[:2])[0] else GPT2Tokenizer
        if found is not cls:
            raise ValueError(
                f"tokenizer of {name} must be a {cls.__name__}, got a {found.__name__} in {str(folder)!r}. Use the "
                "tokenizer that it was trained with."
            )
    settings = {} if cls is Tokenizer else {"context_length": model["context_length"]}
    tokenizer = cls.load(folder, **settings)
    for size in ("vocab_size", "context_length"):
        if size in model and model[size] != getattr(tokenizer, size):
            raise ValueError(
                f"tokenizer of {name} must have {size} {model[size]}, got {getattr(tokenizer, size)} in "
                f"{str(folder)!r}. Use the tokenizer that it was trained with."
            )
    return tokenizer
