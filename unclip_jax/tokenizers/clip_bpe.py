"""Captions to token ids: CLIP's byte-level BPE, in the files that transformers' CLIPTokenizer reads.

A tokenizer folder holds `vocab.json` and `merges.txt`, or `tokenizer.json` that says the same (transformers 5 writes
no other), and `tokenizer_config.json`; where this code trained it, `words.json` with the words of the training captions
too. The ids are those of transformers, for any text: lower-cased, the last piece of a word marked `</w>`. The
vocabulary is laid out as CLIP's (openai/CLIP, simple_tokenizer.py):

    0..255    the bytes, in the order of GPT-2's table, so that "!" is id 0, the padding
    256..511  the same at the end of a word
    512..     a token for each merge
    last two  <|startoftext|> and <|endoftext|>, so that argmax over a row of ids finds the end
"""

import collections
import json
import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
import tokenizers
from etils import epath
from tokenizers import models, normalizers, pre_tokenizers, trainers

from unclip_jax import files
from unclip_jax.tokenizers.files import FILES, WORDS_FILE, read_bpe, truncation, unreadable

START, END, PAD = "<|startoftext|>", "<|endoftext|>", "!"
END_OF_WORD = "</w>"
# CLIP's pattern of pieces that no merge crosses: contractions, runs of letters, single digits, runs of anything else.
PIECES = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


class Tokenizer:
    """Turns captions into rows of ids: start, text, end, padding. Opened with `Tokenizer.load`.

    Attributes:
      context_length: ids in a row, start and end included.
      vocab_size: number of ids.
      eot, pad: ids of the end and of the padding.
      known_words: lower-case words that the training captions held; None where the folder does not say.
    """

    def __init__(
        self, bpe: tokenizers.Tokenizer, *, context_length: int, pad: int, known_words: frozenset[str] | None
    ):
        self._bpe = bpe
        self._start = bpe.token_to_id(START)
        self.eot = bpe.token_to_id(END)
        self.pad = pad
        self.vocab_size = bpe.get_vocab_size()
        self.context_length = context_length
        self.known_words = known_words

    @classmethod
    def load(cls, directory: epath.PathLike) -> "Tokenizer":
        """Opens a folder. Raises ValueError, with what is wrong, for one that is not a CLIP tokenizer's."""
        directory = epath.Path(directory)
        vocab, merges = read_bpe(directory, FILES)
        try:
            config = json.loads((directory / FILES[-1]).read_text(encoding="utf-8"))
            context_length = int(config["model_max_length"])
            bpe = _bpe(models.BPE(vocab, merges, unk_token=END, **_SUFFIXES))
        except Exception as error:  # tokenizers raises a bare Exception for merges that do not fit
            raise unreadable(directory, error) from error
        ids = sorted(vocab.values())
        if ids != list(range(len(vocab))) or vocab.get(END) != ids[-1] or START not in vocab:
            raise ValueError(
                f"tokenizer folder {str(directory)!r}: ids must run from 0, with {START} among them and {END} the last"
            )
        pad = _content(config.get("pad_token")) or PAD
        if pad not in vocab:
            raise ValueError(f"tokenizer folder {str(directory)!r}: pad_token {pad!r} is not in vocab.json")
        # As in transformers, the padding is a token of its own wherever it stands in a text.
        bpe.add_special_tokens(list(dict.fromkeys([START, END, pad])))
        words = directory / WORDS_FILE
        known_words = frozenset(json.loads(words.read_text(encoding="utf-8"))) if words.exists() else None
        return cls(bpe, context_length=context_length, pad=vocab[pad], known_words=known_words)

    def encode(self, texts: Sequence[str], *, on_truncate: Callable[[str], None] | None = None) -> np.ndarray:
        """Ids of `texts`, int32 [N, context_length]: start, text, end, padding. An empty text is start and end.

        A text that is too long is cut, and its row still ends in the end's id; `on_truncate` is called with one line
        that says where (None: it is a warning).
        """
        if isinstance(texts, str):
            raise ValueError(f"texts is the str {texts!r}; a list of str is wanted")
        rows = np.full((len(texts), self.context_length), self.pad, np.int32)
        room = self.context_length - 2
        encodings = self._bpe.encode_batch(list(texts), add_special_tokens=False)
        for row, text, encoding in zip(rows, texts, encodings):
            ids = encoding.ids
            if len(ids) > room:
                cut = encoding.offsets[room - 1][1]
                message = truncation(text, len(ids), room, cut)
                if on_truncate is None:
                    warnings.warn(message, stacklevel=2)
                else:
                    on_truncate(message)
                ids = ids[:room]
            row[: len(ids) + 2] = [self._start, *ids, self.eot]
        return rows

    def unknown_words(self, text: str) -> list[str]:
        """Words of `text` that no training caption held, lower-case, in order, each once. Empty where the folder does
        not say what the captions held."""
        if self.known_words is None:
            return []
        return [word for word in dict.fromkeys(split_words(text)) if word not in self.known_words]


def train_tokenizer(
    captions: Iterable[str], *, vocab_size: int, context_length: int, directory: epath.PathLike
) -> None:
    """Trains a tokenizer on `captions` and writes its folder. The same captions give the same files.

    The vocabulary has exactly `vocab_size` ids: where the captions run out of merges, ids that no text uses fill it.
    """
    smallest = 2 * len(_BYTES) + 2
    if vocab_size < smallest:
        raise ValueError(f"vocab_size is {vocab_size}; {len(_BYTES)} bytes, twice, and two marks need {smallest}")
    if context_length < 3:
        raise ValueError(f"context_length is {context_length}; start, one token and end need 3")
    base = [*_BYTES, *(byte + END_OF_WORD for byte in _BYTES)]
    words: set[str] = set()
    counted = collections.Counter()
    for caption in captions:
        if caption not in counted:
            words.update(split_words(caption))
        counted[caption] += 1
    merges = _train_merges(counted.elements(), base, vocab_size - smallest)
    tokens = [*base, *(left + right for left, right in merges)]
    tokens += [f"<|unused{number}|>" for number in range(vocab_size - 2 - len(tokens))]
    vocab = {token: number for number, token in enumerate([*tokens, START, END])}
    config = {
        "tokenizer_class": "CLIPTokenizer",
        "bos_token": START,
        "eos_token": END,
        "unk_token": END,
        "pad_token": PAD,
        "model_max_length": context_length,
    }
    directory = epath.Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    lines = ["#version: 0.2", *(f"{left} {right}" for left, right in merges)]
    contents = {
        WORDS_FILE: json.dumps(sorted(words), indent=1),
        "merges.txt": "\n".join(lines),
        "tokenizer_config.json": json.dumps(config, indent=1),
        "vocab.json": json.dumps(vocab),  # last: a folder with a vocabulary is a whole one
    }
    for name, text in contents.items():
        files.atomic_write(directory / name, text + "\n")


def add_known_words(directory: epath.PathLike, captions: Iterable[str]) -> None:
    """Adds the words of further captions to those that a tokenizer's folder says were known. A folder that does not say
    which were known stays as it is."""
    path = epath.Path(directory) / WORDS_FILE
    if path.exists():
        words = set(json.loads(path.read_text(encoding="utf-8")))
        words.update(word for caption in set(captions) for word in split_words(caption))
        files.atomic_write(path, json.dumps(sorted(words), indent=1) + "\n")


def split_words(text: str) -> list[str]:
    """Words of a text, lower-case, split at white space and punctuation."""
    return re.findall(r"[^\W_]+", text.lower())


def _train_merges(captions: Iterator[str], base: list[str], count: int) -> list[tuple[str, str]]:
    """The first `count` merges of BPE, or fewer where nothing is left to merge."""
    bpe = _bpe(models.BPE(**_SUFFIXES))
    trainer = trainers.BpeTrainer(
        vocab_size=len(base) + count,
        # The trainer numbers what it meets in the order of a hash table that differs from run to run, and breaks ties
        # by number. Tokens named here are numbered beforehand.
        special_tokens=base,
        end_of_word_suffix=END_OF_WORD,
        show_progress=False,
    )
    bpe.train_from_iterator(captions, trainer)
    merges = json.loads(bpe.to_str())["model"]["merges"]
    return [tuple(merge) for merge in merges[:count]]


def _bpe(model: models.BPE) -> tokenizers.Tokenizer:
    """A model between CLIP's normaliser and CLIP's splitting into pieces."""
    bpe = tokenizers.Tokenizer(model)
    white_space = normalizers.Replace(tokenizers.Regex(r"\s+"), " ")
    bpe.normalizer = normalizers.Sequence([normalizers.NFC(), white_space, normalizers.Lowercase()])
    pieces = pre_tokenizers.Split(tokenizers.Regex(PIECES), behavior="removed", invert=True)
    bpe.pre_tokenizer = pre_tokenizers.Sequence([pieces, pre_tokenizers.ByteLevel(add_prefix_space=False)])
    return bpe


def _content(token: str | dict | None) -> str | None:
    """The text of a token in tokenizer_config.json, where it is a string or an object."""
    return token["content"] if isinstance(token, dict) else token


def _bytes_in_order() -> list[str]:
    """GPT-2's 256 byte characters: the printable bytes as themselves, then the others from U+0100 on."""
    printable = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = 256 - len(printable)
    return [chr(code) for code in [*printable, *range(0x100, 0x100 + others)]]


_BYTES = _bytes_in_order()
_SUFFIXES = {"end_of_word_suffix": END_OF_WORD, "continuing_subword_prefix": ""}
