"""Which published model a file, a folder or a repository is."""

from etils import epath

from unclip_jax.pretrained import clip_files, hub
from unclip_jax.pretrained.published import Published
from unclip_jax.pretrained.tensor_files import open_tensors

KNOWN = (
    "a CLIP as Hugging Face's folder (config.json), OpenCLIP's (open_clip_config.json) or OpenAI's TorchScript file"
)


def find(source: epath.PathLike) -> epath.Path:
    """The file or folder that `source` names, or the folder that a repository of this name is fetched to.

    Raises ValueError where there is none.
    """
    path = epath.Path(source)
    if path.exists():
        return path
    if hub.is_id(source):
        return hub.download(str(source))
    raise ValueError(f"{str(source)!r} does not exist; a file, a folder, or a repository's name on the hub is wanted")


def recognise(source: epath.PathLike) -> Published:
    """A published model by the files that make it; of the weights, names and shapes are read and no more.

    Raises ValueError, with what is known, for what is none, and for damaged files.
    """
    path = find(source)
    published = _of_folder(path) if path.is_dir() else _of_file(path)
    if published is None:
        raise ValueError(f"{str(source)!r} is no published model that is known; known: {KNOWN}")
    return published


def _of_folder(folder: epath.Path) -> Published | None:
    if (folder / hub.OPEN_CLIP_CONFIG).exists():
        return clip_files.open_open_clip(folder)
    if (folder / "config.json").exists() and clip_files.read_json(folder / "config.json").get("model_type") == "clip":
        return clip_files.open_hugging_face(folder)
    return None


def _of_file(path: epath.Path) -> Published | None:
    tensors = open_tensors(path)
    if clip_files.is_openai(tensors):
        return clip_files.open_openai(path, tensors)
    if "visual.conv1.weight" in tensors:
        raise ValueError(
            f"{str(path)!r} holds an OpenCLIP model's tensors, which do not say its heads and activation; name the "
            f"folder with it and {hub.OPEN_CLIP_CONFIG}"
        )
    return None
