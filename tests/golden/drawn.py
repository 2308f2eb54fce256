"""Weights, noise and a tokenizer that two programs make alike, so that none of them has to be kept."""

import json
import pathlib
import string
import zlib

import numpy as np
from tokenizers import pre_tokenizers


def drawn(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """float32, such that activations keep their size; none of its numbers is 0 or 1.

    Matrices and kernels are [out, in, ...]: deviation 1 / sqrt(numbers that make one output). What a name calls a
    scale of a norm lies about 1, biases and other vectors about 0.
    """
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    x = rng.standard_normal(shape)
    if len(shape) < 2:
        is_scale = name.endswith(("weight", ".g"))
        return np.asarray(1.0 + 0.3 * x if is_scale else 0.2 * x, np.float32)
    return (x / np.sqrt(np.prod(shape[1:]))).astype(np.float32)


def noise(stage: str, draw: int, shape: tuple[int, ...]) -> np.ndarray:
    """float32 normal noise [rows, ...] that two programs draw alike, by a stage's name and a number."""
    return np.random.default_rng([zlib.crc32(stage.encode()), draw]).standard_normal(shape).astype(np.float32)


def letters_tokenizer(folder: pathlib.Path, *, vocab_size: int, context_length: int) -> pathlib.Path:
    """Writes CLIP's kind of tokenizer without merges: "!", which is the padding, letters that end a word or do not, and
    the two marks."""
    folder.mkdir(exist_ok=True, parents=True)
    letters = ["!", *(letter + end for letter in string.ascii_lowercase for end in ("", "</w>")), *map(str, range(9))]
    tokens = [*letters[: vocab_size - 2], "<|startoftext|>", "<|endoftext|>"]
    config = {
        "tokenizer_class": "CLIPTokenizer",
        "model_max_length": context_length,
        "bos_token": "<|startoftext|>",
        "eos_token": "<|endoftext|>",
        "unk_token": "<|endoftext|>",
        "pad_token": "!",
    }
    (folder / "vocab.json").write_text(json.dumps({token: number for number, token in enumerate(tokens)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


def gpt2_tokenizer(folder: pathlib.Path) -> pathlib.Path:
    """Writes GPT-2's kind of tokenizer with eight merges: the bytes' characters, what the merges make, and the end."""
    folder.mkdir(exist_ok=True, parents=True)
    merges = ["Ġ a", "r e", "re d", "Ġ c", "i r", "Ġc ir", "l e", "Ġ red"]
    tokens = [*sorted(pre_tokenizers.ByteLevel.alphabet()), *(merge.replace(" ", "") for merge in merges)]
    vocab = {token: number for number, token in enumerate([*tokens, "<|endoftext|>"])}
    (folder / "vocab.json").write_text(json.dumps(vocab))
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges, ""]))
    return folder
