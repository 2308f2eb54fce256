"""Reproducible random weights, noise and tokenizers, which golden files therefore do not need to contain."""

import json
import pathlib
import string
import zlib

import numpy as np
from tokenizers import pre_tokenizers


def drawn(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Returns a random float32 tensor that depends only on its name and preserves the scale of activations.

    Matrices and kernels have axes [out, in, ...] and the standard deviation 1/sqrt(fan-in). Scales of norms, which are
    recognized by their names, are distributed around 1, biases and other vectors around 0.
    """
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    x = rng.standard_normal(shape)
    if len(shape) < 2:
        is_scale = name.endswith(("weight", ".g"))
        return np.asarray(1.0 + 0.3 * x if is_scale else 0.2 * x, np.float32)
    return (x / np.sqrt(np.prod(shape[1:]))).astype(np.float32)


def noise(stage: str, draw: int, shape: tuple[int, ...]) -> np.ndarray:
    """Returns normal float32 noise [rows, ...] that depends only on the name of a stage and the number of the draw."""
    return np.random.default_rng([zlib.crc32(stage.encode()), draw]).standard_normal(shape).astype(np.float32)


def letters_tokenizer(folder: pathlib.Path, *, vocab_size: int, context_length: int) -> pathlib.Path:
    """Writes a CLIP tokenizer without merges.

    Its vocabulary contains "!" (padding), letters within and at the end of words, digits, and the start and end tokens.
    """
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
    """Writes a GPT-2 tokenizer whose vocabulary contains the bytes, eight merges and the end token."""
    folder.mkdir(exist_ok=True, parents=True)
    merges = ["Ġ a", "r e", "re d", "Ġ c", "i r", "Ġc ir", "l e", "Ġ red"]
    tokens = [*sorted(pre_tokenizers.ByteLevel.alphabet()), *(merge.replace(" ", "") for merge in merges)]
    vocab = {token: number for number, token in enumerate([*tokens, "<|endoftext|>"])}
    (folder / "vocab.json").write_text(json.dumps(vocab))
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges, ""]))
    return folder
