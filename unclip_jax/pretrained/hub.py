"""Published files from the Hugging Face hub, in its own cache."""

import re
from collections.abc import Iterable, Sequence

from etils import epath

from unclip_jax.errors import first_line

ID = re.compile(r"[\w.-]+/[\w.-]+")
OPEN_CLIP_CONFIG = "open_clip_config.json"
# In the order of preference, of those that a folder holds.
WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".ckpt")
# Other precisions, other frameworks, and what checks or trains but does not make.
UNWANTED = re.compile(r"\.(fp16|non_ema)\.|(^|/)(flax_|tf_|onnx/|safety_checker/)")


def find(source: epath.PathLike, files: Sequence[str] = ()) -> epath.Path:
    """Returns the file or folder that `source` names, or the folder to which a repository of that id is downloaded.

    Args:
      source: A file, a folder, or the id of a Hugging Face repository.
      files: Shell patterns of files to download in addition to those of `wanted`.

    Raises:
      ValueError: If there is none.
    """
    path = epath.Path(source)
    if path.exists():
        return path
    if is_id(source):
        return download(str(source), files)
    raise ValueError(f"{str(source)!r} does not exist. Pass a file, a folder, or the id of a Hugging Face repository.")


def is_id(source: epath.PathLike) -> bool:
    """Whether a name could be a repository's, such as "kakaobrain/karlo-v1-alpha"."""
    return ID.fullmatch(str(source)) is not None


def wanted(names: Iterable[str]) -> list[str]:
    """Of a repository's files its settings, texts and weights, the latter in one format for each folder."""
    kept = [name for name in names if not UNWANTED.search(name)]
    if OPEN_CLIP_CONFIG in kept:  # beside which the same weights may stand in Hugging Face's names
        kept = [name for name in kept if not re.match(r"(pytorch_)?model[.-]", name)]
    texts = [name for name in kept if name.endswith((".json", ".txt"))]
    folders: dict[str, list[str]] = {}
    for name in kept:
        if name.endswith(WEIGHTS):
            folders.setdefault(name.rpartition("/")[0], []).append(name)
    weights = []
    for found in folders.values():
        best = next(suffix for suffix in WEIGHTS if any(name.endswith(suffix) for name in found))
        weights += [name for name in found if name.endswith(best)]
    return sorted(texts + weights)


def download(repository: str, files: Sequence[str] = ()) -> epath.Path:
    """The folder of a repository's newest files, of which those that are not there yet are fetched.

    Where the hub cannot be reached, what was fetched before is taken. Raises ValueError, with one line, where there is
    nothing.
    """
    import huggingface_hub
    from huggingface_hub import errors

    try:
        patterns = [*wanted(huggingface_hub.HfApi().list_repo_files(repository)), *files]
        return epath.Path(huggingface_hub.snapshot_download(repository, allow_patterns=patterns))
    except errors.RepositoryNotFoundError as error:
        raise ValueError(f"{repository!r} is no folder here, and no public repository on the hub") from error
    except Exception as error:  # the network's errors are of whichever HTTP library the hub's client uses
        return _fetched_before(repository, error)


def _fetched_before(repository: str, why: Exception) -> epath.Path:
    import huggingface_hub
    from huggingface_hub import errors

    try:
        return epath.Path(huggingface_hub.snapshot_download(repository, local_files_only=True))
    except errors.LocalEntryNotFoundError as error:
        raise ValueError(
            f"{repository!r} is no folder here, and the hub, where a repository of this name may be, cannot be "
            f"reached ({first_line(why)})"
        ) from error
