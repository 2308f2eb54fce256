"""Recognition of cascade folders by their contents, so that no other folder is ever overwritten."""

import json
from collections.abc import Iterable

from etils import epath

from unclip_jax.tokenizers.files import FILES, ONE_FILE, WORDS_FILE

TOKENIZER_FILES = {*FILES, ONE_FILE, WORDS_FILE}
STAGE_FILES = {"config.json", "params.safetensors", "params_last.safetensors", "extras.safetensors"}
ADVICE = "Move it away, or choose another folder for the cascade."


def is_tokenizer(folder: epath.PathLike) -> bool:
    """Returns whether a folder contains nothing but tokenizer files, or nothing at all."""
    return _contains_only(epath.Path(folder), TOKENIZER_FILES)


def is_stage(folder: epath.PathLike) -> bool:
    """Returns whether a folder is a packaged stage.

    It must have the config of a stage and may also contain parameters, extras and a tokenizer, but nothing else.
    """
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
    """Raises ValueError unless a path does not exist, or is an empty folder or a packaged stage."""
    path = epath.Path(path)
    if not path.exists() or (path.is_dir() and not any(path.iterdir())) or is_stage(path):
        return
    unknown = _unexpected(path / "tokenizer")
    within = f", with {listed(unknown)} in tokenizer" if unknown else ""
    raise ValueError(f"{str(path)!r} must be a packaged stage to be replaced, got {contents(path)}{within}. {ADVICE}")


def contents(path: epath.Path) -> str:
    """Describes the contents of a path, for error messages."""
    if not path.is_dir():
        return "a file"
    return f"a folder that contains {listed(entry.name for entry in path.iterdir())}"


def listed(names: Iterable[str], max_names: int = 5) -> str:
    """Returns the sorted names as text, with at most `max_names` of them."""
    names = sorted(names)
    more = [f"and {len(names) - max_names} more"] if len(names) > max_names else []
    return ", ".join([*names[:max_names], *more])


def _contains_only(folder: epath.Path, files: set[str], folders: tuple[str, ...] = ()) -> bool:
    return folder.is_dir() and all(path.name in (folders if path.is_dir() else files) for path in folder.iterdir())


def _unexpected(tokenizer: epath.Path) -> list[str]:
    """Returns the names in a tokenizer folder that are not tokenizer files."""
    if not tokenizer.is_dir():
        return []
    return [path.name for path in tokenizer.iterdir() if path.is_dir() or path.name not in TOKENIZER_FILES]
