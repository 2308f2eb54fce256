"""Recognizes, by their contents, the folders of a cascade, so that nothing else is ever replaced by one."""

import json
from collections.abc import Iterable

from etils import epath

from unclip_jax.tokenizer_files import FILES, ONE_FILE, WORDS_FILE

TOKENIZER_FILES = {*FILES, ONE_FILE, WORDS_FILE}
STAGE_FILES = {"config.json", "params.safetensors", "params_last.safetensors", "extras.safetensors"}
ADVICE = "Move it away, or choose another folder for the cascade."


def is_tokenizer(folder: epath.PathLike) -> bool:
    """Returns whether a folder contains only files of a tokenizer."""
    return _contains_only(epath.Path(folder), TOKENIZER_FILES)


def is_stage(folder: epath.PathLike) -> bool:
    """Returns whether a folder is a packaged stage: its config, parameters and tokenizer, and nothing else."""
    folder = epath.Path(folder)
    if not _contains_only(folder, STAGE_FILES, ("tokenizer",)):
        return False
    if (folder / "tokenizer").exists() and not is_tokenizer(folder / "tokenizer"):
        return False
    try:
        config = json.loads((folder / "config.json").read_text())
    except (OSError, ValueError):
        return False
    return isinstance(config, dict) and {"kind", "model"} <= config.keys()


def check_replaceable(path: epath.PathLike, *, tokenizer: bool = False) -> None:
    """Raises ValueError unless a path is missing, an empty folder or a packaged stage (or, if asked, a tokenizer)."""
    path = epath.Path(path)
    if not path.exists() or (path.is_dir() and not any(path.iterdir())):
        return
    if not (is_tokenizer(path) if tokenizer else is_stage(path)):
        wanted = "folder of tokenizer files" if tokenizer else "packaged stage"
        raise ValueError(f"{str(path)!r} must be a {wanted} to be replaced, got {contents(path)}. {ADVICE}")


def contents(path: epath.Path) -> str:
    """Describes what a path contains, for messages."""
    if not path.is_dir():
        return "a file"
    return f"a folder that contains {listed(entry.name for entry in path.iterdir())}"


def listed(names: Iterable[str], most: int = 5) -> str:
    """Lists the first names, sorted."""
    names = sorted(names)
    more = [f"and {len(names) - most} more"] if len(names) > most else []
    return ", ".join([*names[:most], *more])


def _contains_only(folder: epath.Path, files: set[str], folders: tuple[str, ...] = ()) -> bool:
    return folder.is_dir() and all(path.name in (folders if path.is_dir() else files) for path in folder.iterdir())
