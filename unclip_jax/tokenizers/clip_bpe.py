"""CLIP's byte-level BPE tokenizer, in the file formats of transformers' CLIPTokenizer.

A tokenizer folder contains `vocab.json`, `merges.txt` and `tokenizer_config.json`. `tokenizer.json` may replace the
first two; transformers 5 writes only that. Tokenizers trained by this package also have `words.json`, the words of the
training captions. Ids equal those of transformers for any text: text is lower-cased, and the last token of a word is
marked with `</w>`. The vocabulary has CLIP's layout (openai/CLIP, simple_tokenizer.py):

    0..255    bytes in the order of GPT-2's table; "!" has id 0 and is the default padding
    256..511  the same bytes at the end of a word
    512..     one token per merge
    last two  <|startoftext|> and <|endoftext|>; argmax over a row of ids therefore finds the end
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
from unclip_jax.tokenizers.texts import check_texts

START, END, PAD = "<|startoftext|>", "<|endoftext|>", "!"
END_OF_WORD = "</w>"
# CLIP's pre-tokenization into contractions, runs of letters, single digits and runs of other characters.
PIECES = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


class Tokenizer:
    """CLIP's tokenizer, which encodes captions as start token, text, end token and padding.

    Load it with `Tokenizer.load`.

    Attributes:
      context_length: Length of a row of ids, including the start and end tokens.
      vocab_size: Number of ids.
      eot: Id of the end token.
      pad: Id of the padding token.
      known_words: Lower-case words of the training captions. If None, the folder does not list them.
    """

    def __init__(self, bpe: tokenizers.Tokenizer, *, context_length: int, pad: int, known_words: frozenset[str] | None):
        self._bpe = bpe
        self._start = bpe.token_to_id(START)
        self.eot = bpe.token_to_id(END)
        self.pad = pad
        self.vocab_size = bpe.get_vocab_size()
        self.context_length = context_length
        self.known_words = known_words

    @classmethod
    def load(cls, directory: epath.PathLike) -> "Tokenizer":
        """Loads a tokenizer folder.

        Raises:
          ValueError: If a file is missing or cannot be read, or if the vocabulary does not have CLIP's layout.
        """
        directory = epath.Path(directory)
        vocab, merges = read_bpe(directory, FILES)
        try:
            config = json.loads((directory / FILES[-1]).read_text(encoding="utf-8"))
            context_length = int(config["model_max_length"])
            bpe = _bpe(models.BPE(vocab, merges, unk_token=END, **_SUFFIXES))
        except Exception as error:  # tokenizers raises a bare Exception for merges that do not match the vocabulary
            raise unreadable(directory, error) from error
        ids = sorted(vocab.values())
        if ids != list(range(len(vocab))) or vocab.get(END) != ids[-1] or START not in vocab:
            raise ValueError(
                f"ids of tokenizer folder {str(directory)!r} must be consecutive from 0, with {START} among them and "
                f"{END} last."
            )
        pad = _content(config.get("pad_token")) or PAD
        if pad not in vocab:
            raise ValueError(f"pad_token of tokenizer folder {str(directory)!r} must be in vocab.json, got {pad!r}.")
        # As in transformers, the padding token is matched as a single token anywhere in a text.
        bpe.add_special_tokens(list(dict.fromkeys([START, END, pad])))
        words = directory / WORDS_FILE
        known_words = frozenset(json.loads(words.read_text(encoding="utf-8"))) if words.exists() else None
        return cls(bpe, context_length=context_length, pad=vocab[pad], known_words=known_words)

    def encode(self, texts: Sequence[str], *, on_truncate: Callable[[str], None] | None = None) -> np.ndarray:
        """Encodes texts as int32 ids [N, context_length]: start token, text, end token, padding.

        Args:
          texts: N texts. Texts that are too long are truncated; their rows still end with the end token.
          on_truncate: Called with a one-line message for each truncated text. If None, the message is a warning.

        Raises:
          ValueError: If `texts` is a single string.
        """
        check_texts(texts)
        rows = np.full((len(texts), self.context_length), self.pad, np.int32)
        room = self.context_length - 2
        encodings = self._bpe.encode_batch(list(texts), add_special_tokens=False)
        for row, text, encoding in zip(rows, texts, encodings, strict=True):
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
        """Returns the lower-case words of `text` that no training caption contained, in order, each once.

        The list is empty if the tokenizer folder does not list the words of the training captions.
        """
        if self.known_words is None:
            return []
        return [word for word in dict.fromkeys(split_words(text)) if word not in self.known_words]


def train_tokenizer(
    captions: Iterable[str], *, vocab_size: int, context_length: int, directory: epath.PathLike
) -> None:
    """Trains a tokenizer and writes its folder.

    The same captions always give the same files.

    Args:
      captions: The training captions.
      vocab_size: Exact number of ids, at least 514. If the captions yield too few merges, unused tokens fill the
        vocabulary.
      context_length: Length of a row of ids, including the start and end tokens; at least 3.
      directory: Output folder. Created if missing; existing files are replaced.

    Raises:
      ValueError: If `vocab_size` or `context_length` is too small.
    """
    smallest = 2 * len(_BYTES) + 2
    if vocab_size < smallest:
        raise ValueError(f"vocab_size must be at least {smallest}, got {vocab_size}.")
    if context_length < 3:
        raise ValueError(f"context_length must be at least 3 (start, one token, end), got {context_length}.")
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
        "vocab.json": json.dumps(vocab),  # written last: its presence marks the folder as complete
    }
    for name, text in contents.items():
        files.atomic_write(directory / name, text + "\n")


def add_known_words(directory: epath.PathLike, captions: Iterable[str]) -> None:
    """Adds the words of more captions to the known words of a tokenizer folder.

    A folder without `words.json` is left unchanged.
    """
    path = epath.Path(directory) / WORDS_FILE
    if path.exists():
        words = set(json.loads(path.read_text(encoding="utf-8")))
        words.update(word for caption in set(captions) for word in split_words(caption))
        files.atomic_write(path, json.dumps(sorted(words), indent=1) + "\n")


def split_words(text: str) -> list[str]:
    """Returns the lower-case words of a text, split at whitespace and punctuation."""
    return re.findall(r"[^\W_]+", text.lower())


def _train_merges(captions: Iterator[str], base: list[str], count: int) -> list[tuple[str, str]]:
    """Returns the first `count` BPE merges, or fewer if nothing is left to merge."""
    bpe = _bpe(models.BPE(**_SUFFIXES))
    trainer = trainers.BpeTrainer(
        vocab_size=len(base) + count,
        # The trainer breaks ties by id and assigns ids in hash order, which differs between runs. Special tokens get
        # their ids first, which makes training deterministic.
        special_tokens=base,
        end_of_word_suffix=END_OF_WORD,
        show_progress=False,
    )
    bpe.train_from_iterator(captions, trainer)
    merges = json.loads(bpe.to_str())["model"]["merges"]
    return [tuple(merge) for merge in merges[:count]]


def _bpe(model: models.BPE) -> tokenizers.Tokenizer:
    """Wraps a model with CLIP's normalizer and pre-tokenizer."""
    bpe = tokenizers.Tokenizer(model)
    white_space = normalizers.Replace(tokenizers.Regex(r"\s+"), " ")
    bpe.normalizer = normalizers.Sequence([normalizers.NFC(), white_space, normalizers.Lowercase()])
    pieces = pre_tokenizers.Split(tokenizers.Regex(PIECES), behavior="removed", invert=True)
    bpe.pre_tokenizer = pre_tokenizers.Sequence([pieces, pre_tokenizers.ByteLevel(add_prefix_space=False)])
    return bpe


def _content(token: str | dict | None) -> str | None:
    """Returns the text of a token in tokenizer_config.json, which is a string or an object."""
    return token["content"] if isinstance(token, dict) else token


def _bytes_in_order() -> list[str]:
    """Returns GPT-2's 256 byte characters: printable bytes as themselves, then the others from U+0100 on."""
    printable = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = 256 - len(printable)
    return [chr(code) for code in [*printable, *range(0x100, 0x100 + others)]]


_BYTES = _bytes_in_order()
_SUFFIXES = {"end_of_word_suffix": END_OF_WORD, "continuing_subword_prefix": ""}
