"""Access to published files: local paths, and repositories on the Hugging Face Hub."""

import re
from collections.abc import Iterable, Sequence

from etils import epath

from unclip_jax.errors import first_line

ID = re.compile(r"[\w.-]+/[\w.-]+")
OPEN_CLIP_CONFIG = "open_clip_config.json"
WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".ckpt")  # in order of preference
# Weights in other precisions or for other frameworks, training states, and safety checkers.
UNWANTED = re.compile(r"\.(fp16|non_ema)\.|(^|/)(flax_|tf_|onnx/|safety_checker/)")


def find(source: epath.PathLike, files: Sequence[str] = ()) -> epath.Path:
    """Returns the path of a source, downloading it if it is a repository on the Hugging Face Hub.

    Args:
      source: A file, a folder, or a hub id. An existing path takes precedence over a hub id.
      files: Shell patterns of files to download in addition to those of `select_files`.

    Returns:
      The file or folder. For a hub id, the folder of the download.

    Raises:
      ValueError: If there is no such path or repository, or if the hub cannot be reached.
    """
    path = epath.Path(source)
    if path.exists():
        return path
    if is_id(source):
        return download(str(source), files)
    raise ValueError(f"{str(source)!r} does not exist. Pass a file, a folder, or the id of a Hugging Face repository.")


def is_id(source: epath.PathLike) -> bool:
    """Returns whether a name has the form of a hub id, such as "kakaobrain/karlo-v1-alpha"."""
    return ID.fullmatch(str(source)) is not None


def select_files(names: Iterable[str]) -> list[str]:
    """Returns the files of a repository that are needed: configurations, tokenizers and weights.

    If a folder contains its weights in several formats, only the preferred format is returned.

    Args:
      names: Paths of all files, relative to the repository.
    """
    kept = [name for name in names if not UNWANTED.search(name)]
    if OPEN_CLIP_CONFIG in kept:  # such repositories may also contain the same weights in Hugging Face's layout
        kept = [name for name in kept if not re.match(r"(pytorch_)?model[.-]", name)]
    texts = [name for name in kept if name.endswith((".json", ".txt"))]
    folders: dict[str, list[str]] = {}
    for name in kept:
        if name.endswith(WEIGHTS):
            folders.setdefault(name.rpartition("/")[0], []).append(name)
    weights = []
    for candidates in folders.values():
        best = next(suffix for suffix in WEIGHTS if any(name.endswith(suffix) for name in candidates))
        weights += [name for name in candidates if name.endswith(best)]
    return sorted(texts + weights)


def download(repository: str, files: Sequence[str] = ()) -> epath.Path:
    """Downloads the latest files of a repository to the cache of Hugging Face.

    Files in the cache are not downloaded again. If the hub cannot be reached, the cached files are used.

    Args:
      repository: A hub id.
      files: Shell patterns of files to download in addition to those of `select_files`.

    Returns:
      The folder of the files.

    Raises:
      ValueError: If the repository does not exist or is not public, or if the hub cannot be reached and no files are
        cached.
    """
    import huggingface_hub
    from huggingface_hub import errors

    try:
        patterns = [*select_files(huggingface_hub.HfApi().list_repo_files(repository)), *files]
        return epath.Path(huggingface_hub.snapshot_download(repository, allow_patterns=patterns))
    except errors.RepositoryNotFoundError as error:
        raise ValueError(f"{repository!r} is neither a local path nor a public repository on the hub.") from error
    except Exception as error:  # the type of a network error depends on the HTTP library that the client uses
        return _cached(repository, error)


def _cached(repository: str, cause: Exception) -> epath.Path:
    import huggingface_hub
    from huggingface_hub import errors

    try:
        return epath.Path(huggingface_hub.snapshot_download(repository, local_files_only=True))
    except errors.LocalEntryNotFoundError as error:
        raise ValueError(
            f"{repository!r} is not a local path, and the hub cannot be reached ({first_line(cause)}). Pass a file or "
            "folder, or check the network connection."
        ) from error
