"""Which published model a file, a folder or a repository is."""

from etils import epath

from unclip_jax.pretrained import clip_files, glide_files, guided_diffusion_files, hub, karlo_files
from unclip_jax.pretrained.published import Published
from unclip_jax.pretrained.tensor_files import open_tensors

KNOWN = (
    "a CLIP as Hugging Face's folder (config.json), OpenCLIP's (open_clip_config.json) or OpenAI's TorchScript file; "
    "Karlo as diffusers' folder (model_index.json) or with its own files (prior-ckpt-*, decoder-ckpt-*, ...); GLIDE's "
    "base.pt and upsample.pt; guided-diffusion's files under their own names (64x64_diffusion.pt, ...)"
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


def recognise(source: epath.PathLike, *, clip: epath.PathLike | None = None) -> Published:
    """A published model by the files that make it; of the weights, names and shapes are read and no more.

    `clip`: the source of the CLIP of a model that holds none. Raises ValueError, with what is known, for what is no
    published model, and for damaged files.
    """
    path, given = find(source), None if clip is None else recognise(clip)
    try:
        published = _of_folder(path, given) if path.is_dir() else _of_file(path)
    except KeyError as error:  # the sizes are read off tensors and settings that every such model has
        raise ValueError(f"{str(source)!r} lacks {error}, which every model of its kind has") from error
    if published is None:
        raise ValueError(
            f"{str(source)!r} is no folder with a cascade.json and no published model that is known; known: {KNOWN}"
        )
    if given is not None and given.stages[0] not in published.stages:
        raise ValueError(f"{str(source)!r} ({published.family}) needs no other CLIP; leave out {str(clip)!r}")
    return published


def _of_folder(folder: epath.Path, clip: Published | None) -> Published | None:
    if karlo_files.is_pipeline(folder):
        return karlo_files.open_pipeline(folder)
    if karlo_files.is_original(folder):
        return karlo_files.open_original(folder, clip)
    if glide_files.found(folder):
        return glide_files.open_folder(folder)
    if guided_diffusion_files.found(folder):
        return guided_diffusion_files.open_folder(folder)
    if (folder / hub.OPEN_CLIP_CONFIG).exists():
        return clip_files.open_open_clip(folder)
    if clip_files.is_hugging_face(folder):
        return clip_files.open_hugging_face(folder)
    return None


def _of_file(path: epath.Path) -> Published | None:
    tensors = open_tensors(path)
    if clip_files.is_openai(tensors):
        return clip_files.open_openai(path, tensors)
    if glide_files.is_glide(tensors):
        return glide_files.open_file(path, tensors)
    if guided_diffusion_files.is_guided_diffusion(tensors):
        return guided_diffusion_files.open_file(path, tensors)
    if "visual.conv1.weight" in tensors:
        raise ValueError(
            f"{str(path)!r} holds an OpenCLIP model's tensors, which do not say its heads and activation; name the "
            f"folder with it and {hub.OPEN_CLIP_CONFIG}"
        )
    return None
