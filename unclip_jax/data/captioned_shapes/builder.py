"""The captioned-shapes data set: drawn on this machine, the same bytes every time, nothing downloaded.

A record holds `image` (the 256 px picture as PNG), `thumbnail` (64 px, PNG), `captions` (several texts) and `scene`
(JSON of what is in the picture). The config "contrasts" is for CLIP: it has `wrong_captions`, each the caption of the
same number with one thing said that is not so, and as many training pictures again, most of two objects and most in
colours that no word stands for. So CLIP learns what is where, and shapes apart from colours. "recoloured" is for the
decoder: training pictures of that second kind alone, though half of them in colours that have names.

Splits: `train` and `test` never show a held-out (shape, colour) pair, `compositional` shows nothing else.
"""

import contextlib
import copy
import dataclasses
import fcntl
import io
import os
import sys
import tempfile
import zlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from etils import epath
from PIL import Image

from unclip_jax.data.captioned_shapes.captions import Caption, captions, wrong_captions
from unclip_jax.data.captioned_shapes.drawing import THUMBNAIL_SIZE, draw, thumbnail
from unclip_jax.data.captioned_shapes.scene import IMAGE_SIZE, Scene, recolour, sample_scene
from unclip_jax.paths import default_directory

CAPTIONS_PER_RECORD = 5
SPLITS = ("train", "test", "compositional")
FIELDS = ("image", "thumbnail", "captions", "scene")
CONTRASTS = ("contrasts", "contrasts_tiny")  # sizes with WRONG among their fields
WRONG = "wrong_captions"
# Records of each split. The tiny ones are for trying things out and for tests.
RECORDS = {
    "full": {"train": 30_000, "test": 2_000, "compositional": 1_000},
    "tiny": {"train": 96, "test": 32, "compositional": 32},
    "contrasts": {"train": 60_000, "test": 2_000, "compositional": 1_000},
    "contrasts_tiny": {"train": 192, "test": 32, "compositional": 32},
    "recoloured": {"train": 60_000, "test": 2_000, "compositional": 1_000},
}


@dataclasses.dataclass(frozen=True)
class Further:
    """Training pictures unlike those of the full data: from which number on they are, and which share of them has two
    objects, and which has colours that no word stands for."""

    start: int
    two_objects: float
    recoloured: float


FURTHER = {
    "contrasts": Further(30_000, two_objects=0.7, recoloured=0.6),
    "contrasts_tiny": Further(96, two_objects=0.7, recoloured=0.6),
    "recoloured": Further(0, two_objects=0.5, recoloured=0.5),
}


class CaptionedShapes(tfds.core.GeneratorBasedBuilder):
    """TFDS builder; its configs are the sizes."""

    name = "captioned_shapes"
    VERSION = tfds.core.Version("1.1.0")
    BUILDER_CONFIGS = [tfds.core.BuilderConfig(name=name) for name in RECORDS]
    pkg_dir_path = epath.Path(__file__).parent
    # Said here because TFDS 4.9.10 looks for it with importlib_resources, which it does not install.
    code_path = epath.Path(__file__)

    def _info(self) -> tfds.core.DatasetInfo:
        features = {
            "image": tfds.features.Image(shape=(IMAGE_SIZE, IMAGE_SIZE, 3), encoding_format="png"),
            "thumbnail": tfds.features.Image(shape=(THUMBNAIL_SIZE, THUMBNAIL_SIZE, 3), encoding_format="png"),
            "captions": tfds.features.Sequence(tfds.features.Text()),
            "scene": tfds.features.Text(),
        }
        if self.builder_config.name in CONTRASTS:
            features[WRONG] = tfds.features.Sequence(tfds.features.Text())
        features = tfds.features.FeaturesDict(features)
        return tfds.core.DatasetInfo(builder=self, features=features, description=__doc__)

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator]:
        del dl_manager  # nothing is downloaded
        return {split: self._generate_examples(split) for split in SPLITS}

    def _generate_examples(self, split: str) -> Iterator[tuple[int, dict[str, Any]]]:
        size = self.builder_config.name
        for index in range(RECORDS[size][split]):
            yield index, make_record(split, index, size)


def describe(split: str, index: int, size: str = "full") -> tuple[Scene, list[Caption], list[Caption]]:
    """What record number `index` of `split` shows, what its captions say, and what its wrong captions say, where the
    size has them; a function of these three and nothing else. (TFDS shuffles: in the files the records lie in another
    order, the same every time.)"""
    seed = [zlib.crc32(split.encode()), index]
    rng, change = np.random.default_rng(seed), np.random.default_rng([*seed, 1])
    further = FURTHER.get(size)
    if further and split == "train" and index >= further.start:
        scene = sample_scene(rng, num_objects=2 if change.random() < further.two_objects else 1)
        scene = recolour(scene, change) if change.random() < further.recoloured else scene
    else:
        scene = sample_scene(rng, held_out=split == "compositional")
    if size not in CONTRASTS:
        return scene, captions(scene, rng, CAPTIONS_PER_RECORD), []
    wrong = wrong_captions(scene, copy.deepcopy(rng), CAPTIONS_PER_RECORD, change=change)
    return scene, captions(scene, rng, CAPTIONS_PER_RECORD), wrong


def make_record(split: str, index: int, size: str = "full") -> dict[str, Any]:
    """Record number `index` of `split` as TFDS takes it."""
    scene, said, wrong = describe(split, index, size)
    image = draw(scene)
    record = {
        # An open file of PNG bytes: an array would be encoded by TensorFlow.
        "image": io.BytesIO(_encode_png(image)),
        "thumbnail": io.BytesIO(_encode_png(thumbnail(image))),
        "captions": [caption.text for caption in said],
        "scene": scene.to_json(),
    }
    return {**record, WRONG: [caption.text for caption in wrong]} if wrong else record


def prepare(directory: epath.PathLike | None = None, *, size: str = "full") -> epath.Path:
    """Makes the data set where it is not there yet (about two minutes), and returns the folder that holds it.

    `directory` None: `default_directory()`. `size`: one of RECORDS. Says in one line on stderr that it draws. The
    data appears under its name whole or not at all; a second process that wants it at the same time waits for it, and
    what an interrupted one left is removed by the next. Raises ValueError for an unknown size, and for a folder that
    cannot be made.
    """
    if size not in RECORDS:
        raise ValueError(f"size is {size!r}; known sizes: {', '.join(RECORDS)}")
    directory = epath.Path(directory).expanduser() if directory is not None else default_directory()
    builder = _builder(directory, size)
    if builder.data_path.exists():
        return builder.data_path
    with _one_at_a_time(directory):
        if not builder.data_path.exists():
            _remove_incomplete(builder.data_path)
            total = sum(RECORDS[size].values())
            print(f"drawing {total:,} captioned-shapes pictures into {builder.data_path}, once", file=sys.stderr)
            # TFDS wants a folder for downloads even where there are none.
            with _quiet(), tempfile.TemporaryDirectory() as downloads:
                builder.download_and_prepare(download_dir=downloads, file_format="array_record")
    return builder.data_path


class Records(Sequence):
    """Records of one split by number, decoded field by field. Pickles, so that worker processes may hold it."""

    def __init__(self, builder: tfds.core.DatasetBuilder, split: str, fields: Sequence[str]):
        self._fields = tuple(fields)
        # Pictures stay encoded until it is known which of the two is wanted.
        skip = {field: tfds.decode.SkipDecoding() for field in ("image", "thumbnail")}
        self._source = builder.as_data_source(split, decoders=skip)

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[dict[str, Any]]:
        """Several records in one reading, which is faster than one by one. Raises IndexError for a number that the
        split does not have."""
        for index in indices:
            if not 0 <= index < len(self):
                raise IndexError(f"index is {index}; the split has records 0 to {len(self) - 1}")
        return [self._decode(record) for record in self._source.__getitems__(list(indices))]

    def _decode(self, record: dict[str, Any]) -> dict[str, Any]:
        return {field: _decode_field(field, record[field]) for field in self._fields}


def data_source(
    split: str,
    directory: epath.PathLike | None = None,
    *,
    size: str = "full",
    fields: Sequence[str] = FIELDS,
) -> Records:
    """The records of `split` by number, prepared first where they are not there.

    A record is a dict of the wanted `fields`: `image` uint8 [256, 256, 3], `thumbnail` uint8 [64, 64, 3], `captions` a
    list of str, `scene` a str for `Scene.from_json`, `wrong_captions`, of the contrasts, a list of str. Raises
    ValueError for an unknown split, size or field.
    """
    if split not in SPLITS:
        raise ValueError(f"split is {split!r}; captioned shapes has {', '.join(SPLITS)}")
    known = (*FIELDS, WRONG) if size in CONTRASTS else FIELDS
    unknown = sorted(set(fields) - set(known))
    if unknown:
        raise ValueError(f"fields holds {unknown}; a captioned-shapes record has {', '.join(known)}")
    prepare(directory, size=size)
    directory = epath.Path(directory).expanduser() if directory is not None else default_directory()
    return Records(_builder(directory, size), split, fields)


def _builder(directory: epath.Path, size: str) -> CaptionedShapes:
    return CaptionedShapes(data_dir=os.fspath(directory), config=size, file_format="array_record")


def _encode_png(image: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG", compress_level=3)
    return buffer.getvalue()


def _decode_field(field: str, value: Any) -> Any:
    if field in ("image", "thumbnail"):
        return np.asarray(Image.open(io.BytesIO(value)))
    if field in ("captions", WRONG):
        return [text.decode() for text in value]
    return value.decode()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silences TFDS's announcements on stdout and its progress bars, and puts both back."""
    tfds.disable_progress_bar()
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        tfds.enable_progress_bar()


@contextlib.contextmanager
def _one_at_a_time(directory: epath.Path) -> Iterator[None]:
    """Holds the folder's lock, which the system lets go when the process ends, however it ends. A bucket has no locks:
    there the last of several processes wins, and all write the same bytes."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"directory {os.fspath(directory)!r} cannot be made for the data set ({error})") from error
    if "://" in os.fspath(directory):
        yield
        return
    with open(directory / ".captioned_shapes.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _remove_incomplete(data_path: epath.Path) -> None:
    """Removes what an interrupted preparation of the same data left; call it with the lock held."""
    if data_path.parent.exists():
        for path in data_path.parent.glob(f"incomplete.*_{data_path.name}"):
            path.rmtree()
