"""GLIDE's tokenizer: GPT-2's byte-level BPE of lower-cased text, without start and end tokens.

A tokenizer folder contains `vocab.json` and `merges.txt`, or `tokenizer.json` instead. The token with the last id,
<|endoftext|>, is the padding. Networks also receive a mask of the padding and replace it with learned embeddings.
"""

import warnings
from collections.abc import Callable, Sequence

import numpy as np
import tokenizers
from etils import epath
from tokenizers import models, normalizers, pre_tokenizers

from unclip_jax.tokenizers.files import FILES, read_bpe, truncation, unreadable
from unclip_jax.tokenizers.texts import check_texts

END = "<|endoftext|>"


class GPT2Tokenizer:
    """GPT-2's tokenizer, which encodes captions as text and padding.

    Load it with `GPT2Tokenizer.load`.

    Attributes:
      context_length: Length of a row of ids.
      vocab_size: Number of ids, including the padding token.
      pad: Id of the padding token.
    """

    def __init__(self, bpe: tokenizers.Tokenizer, *, context_length: int):
        self._bpe = bpe
        self.pad = bpe.token_to_id(END)
        self.vocab_size = bpe.get_vocab_size()
        self.context_length = context_length

    @classmethod
    def load(cls, directory: epath.PathLike, *, context_length: int) -> "GPT2Tokenizer":
        """Loads a tokenizer folder.

        Args:
          directory: The tokenizer folder.
          context_length: Length of a row of ids.

        Raises:
          ValueError: If a file is missing or cannot be read, or if the vocabulary does not have GPT-2's layout.
        """
        directory = epath.Path(directory)
        vocab, merges = read_bpe(directory, FILES[:2])
        if sorted(vocab.values()) != list(range(len(vocab))) or vocab.get(END) != len(vocab) - 1:
            raise ValueError(f"ids of tokenizer folder {str(directory)!r} must be consecutive from 0, with {END} last.")
        try:
            bpe = tokenizers.Tokenizer(models.BPE(vocab, merges))
        except Exception as error:  # tokenizers raises a bare Exception for merges that do not match the vocabulary
            raise unreadable(directory, error) from error
        bpe.normalizer = normalizers.Lowercase()
        bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        return cls(bpe, context_length=context_length)

    def encode(
        self, texts: Sequence[str], *, on_truncate: Callable[[str], None] | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Encodes texts as int32 ids [N, context_length] with a bool mask of that shape, False for padding.

        Args:
          texts: N texts. Texts that are too long are truncated.
          on_truncate: Called with a one-line message for each truncated text. If None, the message is a warning.

        Raises:
          ValueError: If `texts` is a single string.
        """
        check_texts(texts)
        rows = np.full((len(texts), self.context_length), self.pad, np.int32)
        mask = np.zeros(rows.shape, bool)
        for index, (text, encoding) in enumerate(zip(texts, self._bpe.encode_batch(list(texts)), strict=True)):
            ids = encoding.ids[: self.context_length]
            if len(encoding.ids) > len(ids):
                message = truncation(text, len(encoding.ids), self.context_length, encoding.offsets[len(ids) - 1][1])
                if on_truncate is None:
                    warnings.warn(message, stacklevel=2)
                else:
                    on_truncate(message)
            rows[index, : len(ids)] = ids
            mask[index, : len(ids)] = True
        return rows, mask

    def unknown_words(self, text: str) -> list[str]:
        """Returns an empty list, because the words of the training captions are not known."""
        return []
