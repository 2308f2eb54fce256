"""Recognizes, by their contents, the folders of a cascade, so that nothing else is ever replaced by one."""

import json
from collections.abc import Iterable

from etils import epath

from unclip_jax.tokenizers.files import FILES, ONE_FILE, WORDS_FILE

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


def check_replaceable(path: epath.PathLike) -> None:
    """Raises ValueError unless a path is missing, an empty folder or a packaged stage."""
    path = epath.Path(path)
    if not path.exists() or (path.is_dir() and not any(path.iterdir())) or is_stage(path):
        return
    unknown = _strangers(path / "tokenizer")
    within = f", with {listed(unknown)} in tokenizer" if unknown else ""
    raise ValueError(f"{str(path)!r} must be a packaged stage to be replaced, got {contents(path)}{within}. {ADVICE}")


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


def _strangers(tokenizer: epath.Path) -> list[str]:
    """The names in a tokenizer's folder that are none of its files."""
    if not tokenizer.is_dir():
        return []
    return [path.name for path in tokenizer.iterdir() if path.is_dir() or path.name not in TOKENIZER_FILES]
