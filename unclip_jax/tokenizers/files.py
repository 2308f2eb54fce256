"""Files of a tokenizer folder, shared by CLIP's and GPT-2's tokenizers."""

import json
from collections.abc import Sequence

from etils import epath

FILES = ("vocab.json", "merges.txt", "tokenizer_config.json")
ONE_FILE = "tokenizer.json"  # may replace the first two
WORDS_FILE = "words.json"


def copy_tokenizer(source: epath.PathLike, target: epath.PathLike) -> None:
    """Copies the tokenizer files of a folder, and no other files, into an existing folder.

    Raises:
      ValueError: If the source contains no tokenizer files.
    """
    found = [name for name in (*FILES, ONE_FILE, WORDS_FILE) if (epath.Path(source) / name).exists()]
    if not found:
        raise ValueError(f"tokenizer folder {str(source)!r} must contain {', '.join(FILES)}, got none of them.")
    for name in found:
        (epath.Path(target) / name).write_bytes((epath.Path(source) / name).read_bytes())


def truncation(text: str, length: int, room: int, cut: int) -> str:
    """Returns the message for a text that is truncated.

    Args:
      text: The whole text.
      length: Its number of tokens.
      room: Number of tokens that are kept.
      cut: Number of characters that are kept.
    """
    kept = text[max(0, cut - 40) : cut]
    before = "..." if cut > 40 else ""
    return f"a caption of {length} tokens is truncated to {room}: it ends at character {cut}, after {before + kept!r}."


def read_bpe(directory: epath.Path, needed: Sequence[str]) -> tuple[dict[str, int], list[tuple[str, ...]]]:
    """Reads the vocabulary and merges of a tokenizer folder.

    Args:
      directory: The tokenizer folder.
      needed: Names of the files that it must contain. `ONE_FILE` may replace the first two of `FILES`.

    Raises:
      ValueError: If a file is missing or cannot be read.
    """
    missing = [name for name in needed if not (directory / name).exists()]
    if missing and not ((directory / ONE_FILE).exists() and set(missing) <= set(FILES[:2])):
        raise ValueError(
            f"tokenizer folder {str(directory)!r} must contain {', '.join(needed)}. Missing: {', '.join(missing)}."
        )
    try:
        return _read_one_file(directory / ONE_FILE) if missing else _read_two_files(directory)
    except Exception as error:
        raise unreadable(directory, error) from error


def unreadable(directory: epath.Path, error: Exception) -> ValueError:
    """Returns a one-line error for a folder whose files cannot be read as a tokenizer."""
    reason = " ".join(str(error).split())
    return ValueError(f"tokenizer folder {str(directory)!r} cannot be read: {type(error).__name__}: {reason}")


def _read_two_files(directory: epath.Path) -> tuple[dict[str, int], list[tuple[str, ...]]]:
    vocab = json.loads((directory / "vocab.json").read_text(encoding="utf-8"))
    lines = (directory / "merges.txt").read_text(encoding="utf-8").splitlines()
    return vocab, [tuple(line.split()) for line in lines if line and not line.startswith("#version")]


def _read_one_file(path: epath.Path) -> tuple[dict[str, int], list[tuple[str, ...]]]:
    model = json.loads(path.read_text(encoding="utf-8"))["model"]
    # transformers 4 writes a merge as one string with a space instead of a pair.
    return model["vocab"], [tuple(merge.split() if isinstance(merge, str) else merge) for merge in model["merges"]]
