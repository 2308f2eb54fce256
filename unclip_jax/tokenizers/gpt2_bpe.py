"""GLIDE's captions to token ids: GPT-2's byte-level BPE of the lower-cased text, without marks, padded at its end.

A tokenizer folder holds `vocab.json` and `merges.txt`, or `tokenizer.json` that says the same. The vocabulary's last id
is <|endoftext|>, which is the padding; the networks see which ids are padding and put vectors of their own there.
"""

import warnings
from collections.abc import Callable, Sequence

import numpy as np
import tokenizers
from etils import epath
from tokenizers import models, normalizers, pre_tokenizers

from unclip_jax.tokenizers.files import FILES, read_bpe, truncation, unreadable

END = "<|endoftext|>"


class GPT2Tokenizer:
    """Turns captions into rows of ids: the text, then padding. Opened with `GPT2Tokenizer.load`.

    Attributes:
      context_length: ids in a row.
      vocab_size: number of ids, the padding's among them.
      pad: id of the padding.
    """

    def __init__(self, bpe: tokenizers.Tokenizer, *, context_length: int):
        self._bpe = bpe
        self.pad = bpe.token_to_id(END)
        self.vocab_size = bpe.get_vocab_size()
        self.context_length = context_length

    @classmethod
    def load(cls, directory: epath.PathLike, *, context_length: int) -> "GPT2Tokenizer":
        """Opens a folder. Raises ValueError, with what is wrong, for one that is not a tokenizer of GPT-2's kind."""
        directory = epath.Path(directory)
        vocab, merges = read_bpe(directory, FILES[:2])
        if sorted(vocab.values()) != list(range(len(vocab))) or vocab.get(END) != len(vocab) - 1:
            raise ValueError(f"tokenizer folder {str(directory)!r}: ids must run from 0 to {END}, the last; as GPT-2's")
        try:
            bpe = tokenizers.Tokenizer(models.BPE(vocab, merges))
        except Exception as error:  # tokenizers raises a bare Exception for merges that do not fit
            raise unreadable(directory, error) from error
        bpe.normalizer = normalizers.Lowercase()
        bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        return cls(bpe, context_length=context_length)

    def encode(
        self, texts: Sequence[str], *, on_truncate: Callable[[str], None] | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Ids of `texts`, int32 [N, context_length], and which of them are no padding, bool of the same shape.

        A text that is too long is cut; `on_truncate` is called with one line that says where (None: it is a warning).
        """
        rows = np.full((len(texts), self.context_length), self.pad, np.int32)
        mask = np.zeros(rows.shape, bool)
        for place, (text, encoding) in enumerate(zip(texts, self._bpe.encode_batch(list(texts)))):
            ids = encoding.ids[: self.context_length]
            if len(encoding.ids) > len(ids):
                message = truncation(text, len(encoding.ids), self.context_length, encoding.offsets[len(ids) - 1][1])
                if on_truncate is None:
                    warnings.warn(message, stacklevel=2)
                else:
                    on_truncate(message)
            rows[place, : len(ids)] = ids
            mask[place, : len(ids)] = True
        return rows, mask

    def unknown_words(self, text: str) -> list[str]:
        """Returns no words: its folder does not say which the training captions contained."""
        return []
