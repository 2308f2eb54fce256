"""A folder of images with captions as a source of records.

Captions come from text files or from one JSON Lines file:

    DIR/cat.jpg  DIR/cat.txt      a text file named like the image, with one caption per line
    DIR/captions.jsonl            one object per line: {"image": "cat.jpg", "caption": "a cat"}, or "captions": [...]

Images may be in subfolders. If DIR contains the folders "train" and "test", these are the splits, each with its own
captions. Otherwise about one image in twenty belongs to the split "test". It is selected by a hash of its path in DIR,
so the split is the same on every machine.
"""

import hashlib
import io
import json
from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath

from etils import epath

from unclip_jax import images
from unclip_jax.data.records import Record
from unclip_jax.data.source_type import SourceType
from unclip_jax.data.transforms import center_crop

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff")
CAPTIONS = "captions.jsonl"
SPLITS = ("train", "test")
TEST_SHARE = 20  # one image in this many belongs to the test split
NAMED = 3  # maximum number of file names in an error message


class ImageFolder:
    """The records of one split, sorted by name, with images cropped to their central square.

    An image is decoded when its record is read. Reading raises ValueError if the image cannot be decoded.

    Args:
      directory: Folder of the images.
      split: "train" or "test".

    Raises:
      ValueError: If the folder or split does not exist or has no images, if images have no captions, or if
        captions.jsonl is invalid.
    """

    def __init__(self, directory: epath.PathLike, split: str):
        root = epath.Path(directory)
        if not root.is_dir():
            raise ValueError(f"config.data.dir must be a folder of images, got {str(directory)!r}.")
        if split not in SPLITS:
            raise ValueError(f"split must be {' or '.join(SPLITS)} with source folder, got {split!r}.")
        divided = all((root / name).is_dir() for name in SPLITS)
        self._folder = root / split if divided else root
        captions = _captions(self._folder)
        names = sorted(captions)
        if not divided:
            names = [name for name in names if _is_test(name) == (split == "test")]
        if not names:
            raise ValueError(f"split {split!r} of {str(directory)!r} has no images ({', '.join(SUFFIXES)}).")
        self._records = [(name, captions[name]) for name in names]

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int) -> Record:
        name, captions = self._records[index]
        path = self._folder / name
        return Record(center_crop(images.decode(path.read_bytes(), name=str(path))), captions)

    def captions(self) -> Iterator[str]:
        """Yields every caption of every record without decoding images."""
        for _, captions in self._records:
            yield from captions


TYPE = SourceType(
    name="folder",
    provides=frozenset({"image", "captions"}),
    directory="a folder of images with captions",
    open=lambda spec, split: ImageFolder(spec.dir, split),
)


def _captions(folder: epath.Path) -> dict[str, tuple[str, ...]]:
    """Returns captions by image path, relative to the folder."""
    files = set(_files(folder))
    image_files = sorted(name for name in files if PurePosixPath(name).suffix.lower() in SUFFIXES)
    if CAPTIONS in files:
        return _from_jsonl(folder / CAPTIONS, set(image_files))
    texts = {name: PurePosixPath(name).with_suffix(".txt").as_posix() for name in image_files}
    lacking = [name for name in image_files if texts[name] not in files]
    if lacking:
        raise ValueError(
            f"{len(lacking)} of {len(image_files)} images in {str(folder)!r} have no .txt file of the same name, and "
            f"there is no {CAPTIONS}: {_some(lacking)}."
        )
    captions_of = {name: _lines((folder / text).read_text()) for name, text in texts.items()}
    blank = [texts[name] for name, captions in captions_of.items() if not captions]
    if blank:
        raise ValueError(f"{len(blank)} caption files in {str(folder)!r} are empty: {_some(blank)}.")
    return captions_of


def _files(folder: epath.Path, prefix: str = "") -> Iterator[str]:
    """Yields the relative paths of all files, including those in subfolders."""
    for path in folder.iterdir():
        if path.is_dir():
            yield from _files(path, f"{prefix}{path.name}/")
        else:
            yield f"{prefix}{path.name}"


def _from_jsonl(path: epath.Path, image_files: set[str]) -> dict[str, tuple[str, ...]]:
    captions_of: dict[str, tuple[str, ...]] = {}
    for number, line in enumerate(_split(path.read_text()), start=1):
        if not line.strip():
            continue
        where = f"{str(path)!r} line {number}"
        try:
            entry = json.loads(line)
        except ValueError as error:
            raise ValueError(f"{where} is not valid JSON ({error}).") from error
        captions = entry.get("captions", entry.get("caption")) if isinstance(entry, dict) else None
        captions = (captions,) if isinstance(captions, str) else captions
        if not _are_captions(captions) or not isinstance(entry.get("image"), str):
            raise ValueError(f'{where} must have "image", a file name, and a non-empty "caption" or "captions".')
        name = PurePosixPath(entry["image"]).as_posix()
        if name not in image_files:
            raise ValueError(f"{where} names {name!r}, which is not an image in the folder.")
        captions_of[name] = (*captions_of.get(name, ()), *(caption.strip() for caption in captions))
    return captions_of


def _are_captions(captions: object) -> bool:
    if not isinstance(captions, list | tuple) or not captions:
        return False
    return all(isinstance(caption, str) and caption.strip() for caption in captions)


def _lines(text: str) -> tuple[str, ...]:
    return tuple(line.strip() for line in _split(text) if line.strip())


def _split(text: str) -> Iterator[str]:
    """Splits at line ends only. `str.splitlines` would also split captions at U+0085, U+2028 and U+2029."""
    return io.StringIO(text, newline=None)


def _is_test(name: str) -> bool:
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") % TEST_SHARE == 0


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:NAMED]) + (", ..." if len(names) > NAMED else "")
