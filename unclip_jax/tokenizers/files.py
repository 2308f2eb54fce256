"""The files of a tokenizer's folder, whatever reads them: CLIP's, or GPT-2's."""

import json
from collections.abc import Sequence

from etils import epath

FILES = ("vocab.json", "merges.txt", "tokenizer_config.json")
ONE_FILE = "tokenizer.json"  # stands for the first two
WORDS_FILE = "words.json"


def copy_tokenizer(source: epath.PathLike, target: epath.PathLike) -> None:
    """Copies a tokenizer's files, and nothing else that lies in its folder, into a folder that is there. Raises
    ValueError for a folder without any."""
    found = [name for name in (*FILES, ONE_FILE, WORDS_FILE) if (epath.Path(source) / name).exists()]
    if not found:
        raise ValueError(f"tokenizer folder {str(source)!r} must contain {', '.join(FILES)}, got none of them.")
    for name in found:
        (epath.Path(target) / name).write_bytes((epath.Path(source) / name).read_bytes())


def truncation(text: str, length: int, room: int, cut: int) -> str:
    """The line that says that a text of `length` tokens lost those behind the first `room`, at character `cut`."""
    kept = text[max(0, cut - 40) : cut]
    before = "..." if cut > 40 else ""
    return (
        f"a caption of {length} tokens is cut to {room}: "
        f"what follows character {cut}, after {before + kept!r}, is lost"
    )


def read_bpe(directory: epath.Path, needed: Sequence[str]) -> tuple[dict[str, int], list[tuple[str, ...]]]:
    """Vocabulary and merges of a tokenizer's folder, which must hold the files `needed`; ONE_FILE stands for the first
    two. Raises ValueError, with what is wrong, where they cannot be read."""
    missing = [name for name in needed if not (directory / name).exists()]
    if missing and not ((directory / ONE_FILE).exists() and set(missing) <= set(FILES[:2])):
        raise ValueError(
            f"tokenizer folder {str(directory)!r} lacks {', '.join(missing)}; it needs {', '.join(needed)}"
        )
    try:
        return _read_one_file(directory / ONE_FILE) if missing else _read_two_files(directory)
    except Exception as error:
        raise unreadable(directory, error) from error


def unreadable(directory: epath.Path, error: Exception) -> ValueError:
    """The error, in one line, for a folder whose files say what makes no tokenizer."""
    reason = " ".join(str(error).split())
    return ValueError(f"tokenizer folder {str(directory)!r} cannot be read: {type(error).__name__}: {reason}")


def _read_two_files(directory: epath.Path) -> tuple[dict[str, int], list[tuple[str, ...]]]:
    vocab = json.loads((directory / "vocab.json").read_text(encoding="utf-8"))
    lines = (directory / "merges.txt").read_text(encoding="utf-8").splitlines()
    return vocab, [tuple(line.split()) for line in lines if line and not line.startswith("#version")]


def _read_one_file(path: epath.Path) -> tuple[dict[str, int], list[tuple[str, ...]]]:
    model = json.loads(path.read_text(encoding="utf-8"))["model"]
    # A merge is a pair, or, as older versions wrote it, a text with a blank between the two.
    return model["vocab"], [tuple(merge.split() if isinstance(merge, str) else merge) for merge in model["merges"]]
