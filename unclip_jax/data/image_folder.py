"""A folder of pictures with captions as a source of records.

    DIR/cat.jpg  DIR/cat.txt      a caption on every line of a text file of the picture's name
    DIR/captions.jsonl            or one object a line: {"image": "cat.jpg", "caption": "a cat"}, or "captions": [...]

Pictures may lie in folders below. Where DIR has a folder for each split ("train", "test"), those are the splits; where
it has none, one picture in twenty, chosen by its name and so the same one on every machine, is the split "test".
"""

import hashlib
import io
import json
from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath

from etils import epath

from unclip_jax import images
from unclip_jax.data.records import Record
from unclip_jax.data.transforms import middle_square

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff")
CAPTIONS = "captions.jsonl"
SPLITS = ("train", "test")
TEST_SHARE = 20  # one in so many
NAMED = 3  # files that an error names


class ImageFolder:
    """The records of one split, in the order of their names. Pictures are cut to their middle square.

    Raises ValueError for a folder without pictures, pictures without captions, and a captions.jsonl that is not as
    above. A picture is decoded when it is asked for, and one that cannot be raises ValueError then.
    """

    def __init__(self, directory: epath.PathLike, split: str):
        root = epath.Path(directory)
        if not root.is_dir():
            raise ValueError(f"config.data.dir {str(directory)!r} is no folder; source folder reads one of pictures")
        if split not in SPLITS:
            raise ValueError(f"split {split!r} is unknown; a folder has {', '.join(SPLITS)}")
        divided = all((root / name).is_dir() for name in SPLITS)
        self._folder = root / split if divided else root
        captions = _captions(self._folder)
        names = sorted(captions)
        if not divided:
            names = [name for name in names if _is_test(name) == (split == "test")]
        if not names:
            raise ValueError(f"split {split!r} of {str(directory)!r} has no picture ({', '.join(SUFFIXES)})")
        self._records = [(name, captions[name]) for name in names]

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int) -> Record:
        name, captions = self._records[index]
        path = self._folder / name
        return Record(middle_square(images.decode(path.read_bytes(), name=str(path))), captions)

    def captions(self) -> Iterator[str]:
        for _, captions in self._records:
            yield from captions


def _captions(folder: epath.Path) -> dict[str, tuple[str, ...]]:
    """{picture's path within the folder: its captions}."""
    files = set(_files(folder))
    pictures = sorted(name for name in files if PurePosixPath(name).suffix.lower() in SUFFIXES)
    if CAPTIONS in files:
        return _from_jsonl(folder / CAPTIONS, set(pictures))
    texts = {name: PurePosixPath(name).with_suffix(".txt").as_posix() for name in pictures}
    lacking = [name for name in pictures if texts[name] not in files]
    if lacking:
        raise ValueError(
            f"{len(lacking)} of {len(pictures)} pictures in {str(folder)!r} have no .txt of their name, and there is "
            f"no {CAPTIONS}: {_some(lacking)}"
        )
    found = {name: _lines((folder / text).read_text()) for name, text in texts.items()}
    blank = [texts[name] for name, captions in found.items() if not captions]
    if blank:
        raise ValueError(f"{len(blank)} caption files in {str(folder)!r} are empty: {_some(blank)}")
    return found


def _files(folder: epath.Path, prefix: str = "") -> Iterator[str]:
    """Paths within the folder of all files, those in folders below among them."""
    for path in folder.iterdir():
        if path.is_dir():
            yield from _files(path, f"{prefix}{path.name}/")
        else:
            yield f"{prefix}{path.name}"


def _from_jsonl(path: epath.Path, pictures: set[str]) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for number, line in enumerate(_split(path.read_text()), start=1):
        if not line.strip():
            continue
        where = f"{str(path)!r} line {number}"
        try:
            entry = json.loads(line)
        except ValueError as error:
            raise ValueError(f"{where} is not JSON ({error})") from error
        captions = entry.get("captions", entry.get("caption")) if isinstance(entry, dict) else None
        captions = (captions,) if isinstance(captions, str) else captions
        if not _are_captions(captions) or not isinstance(entry.get("image"), str):
            raise ValueError(f'{where} must have "image", a file name, and "caption" or "captions" that are not empty')
        name = PurePosixPath(entry["image"]).as_posix()
        if name not in pictures:
            raise ValueError(f"{where} names {name!r}, which is no picture in the folder")
        found[name] = (*found.get(name, ()), *(caption.strip() for caption in captions))
    return found


def _are_captions(captions: object) -> bool:
    if not isinstance(captions, list | tuple) or not captions:
        return False
    return all(isinstance(caption, str) and caption.strip() for caption in captions)


def _lines(text: str) -> tuple[str, ...]:
    return tuple(line.strip() for line in _split(text) if line.strip())


def _split(text: str) -> Iterator[str]:
    """The lines of a text file. `str.splitlines` would also split at U+0085, U+2028 and U+2029, within a caption."""
    return io.StringIO(text, newline=None)


def _is_test(name: str) -> bool:
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") % TEST_SHARE == 0


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:NAMED]) + (", ..." if len(names) > NAMED else "")
