"""CLIP embeddings of the images of a dataset, computed once and stored next to the captions.

    DIR/manifest.json           the data, the CLIP and the preprocessing that they were computed with and, for each
                                split, the numbers of records and of unreadable records that were left out
    DIR/train/embeddings.npy    float32 [N, E], raw, in the order of the dataset's records
    DIR/train/captions.jsonl    the captions of each record, one list per line

A folder is written completely or not at all. It must be on a file system whose files can be mapped into memory.
"""

import hashlib
import itertools
import json
import os
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import tqdm
from etils import epath

from unclip_jax import files
from unclip_jax.data.records import UNREADABLE, Record, Source, Unreadable, reason_of
from unclip_jax.data.source_type import SourceType
from unclip_jax.data.spec import DataSpec
from unclip_jax.data.transforms import downscale

SCHEMA = 1
PREPROCESSING = 1  # to be increased when the same image and settings give other pixels
MANIFEST, EMBEDDINGS, CAPTIONS = "manifest.json", "embeddings.npy", "captions.jsonl"


class EmbeddingStore:
    """The records of one split: embeddings and captions, without images. Pickles without its contents.

    Raises:
      ValueError: For a folder that does not have the form above.
    """

    def __init__(self, directory: epath.PathLike, split: str):
        self._where = (os.fspath(directory), split)
        manifest = read_manifest(directory)
        if split not in manifest["splits"]:
            known = ", ".join(manifest["splits"])
            raise ValueError(f"split {split!r} is not in the embeddings of {str(directory)!r}; known: {known}")
        folder = epath.Path(directory) / split
        try:
            self._embeddings = np.load(os.fspath(folder / EMBEDDINGS), mmap_mode="r", allow_pickle=False)
            # Not splitlines(), which also splits at U+2028 and others that JSON leaves as they are.
            lines = (folder / CAPTIONS).read_text().removesuffix("\n").split("\n")
            self._captions = [tuple(json.loads(line)) for line in lines]
        except (OSError, EOFError, ValueError) as error:
            raise ValueError(f"the embeddings in {str(folder)!r} cannot be read: {error}") from error
        expected, actual = manifest["splits"][split]["records"], {len(self._embeddings), len(self._captions)}
        if actual != {expected}:
            raise ValueError(
                f"{str(folder)!r} has {len(self._embeddings)} embeddings and {len(self._captions)} lines of captions; "
                f"its manifest says {expected}. It is damaged: make it again."
            )

    def __len__(self) -> int:
        return len(self._captions)

    def __getitem__(self, index: int) -> Record:
        return Record(None, self._captions[index], np.array(self._embeddings[index]))

    def captions(self) -> Iterator[str]:
        for captions in self._captions:
            yield from captions

    def __reduce__(self):
        return EmbeddingStore, self._where


TYPE = SourceType(
    name="embeddings",
    provides=frozenset({"embedding", "captions"}),
    directory="a folder written by `unclip prepare-data embeddings`",
    open=lambda spec, split: EmbeddingStore(spec.dir, split),
    describe=lambda spec: f"embeddings of {read_manifest(spec.dir)['data']}",
    check_encoder=lambda spec, digest: check_made_by(spec.dir, clip=digest, spec=spec),
)


def write_store(
    directory: epath.PathLike,
    sources: dict[str, Source],
    encode: Callable[[np.ndarray], np.ndarray],
    *,
    clip: str,
    data: str,
    spec: DataSpec,
    rows: int = 256,
) -> dict[str, dict[str, int]]:
    """Embeds every record of the sources and stores the embeddings with the captions.

    Args:
      directory: A new folder.
      sources: The source of each split.
      encode: Maps images, uint8 "N S S 3", to embeddings, float32 "N E".
      clip: Digest of the CLIP of `encode`.
      data: Description of the records, see `sources.describe`.
      spec: How images are prepared.
      rows: Number of images per call of `encode`.

    Returns:
      For each split, what the manifest contains about it.

    Raises:
      ValueError: If `directory` exists, or more records than `spec.max_unreadable` allows are unreadable.
    """
    check_new(directory)
    splits = {}
    with files.atomic_folder(directory) as folder:
        for split, source in sources.items():
            (folder / split).mkdir()
            splits[split] = _write_split(folder / split, split, source, encode, spec, rows)
        provenance = {"data": data, "clip": clip, "preprocessing": preprocessing(spec)}
        manifest = {"schema": SCHEMA, **provenance, "splits": splits}
        (folder / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n")
    return splits


def check_new(directory: epath.PathLike) -> None:
    """Raises ValueError if the folder exists."""
    if epath.Path(directory).exists():
        raise ValueError(f"{str(directory)!r} exists; embeddings are written to a new folder")


def check_made_by(directory: epath.PathLike, *, clip: str, spec: DataSpec) -> None:
    """Raises ValueError if stored embeddings were computed with another CLIP or preprocessing than the config's."""
    manifest = read_manifest(directory)
    expected = preprocessing(spec)
    for name, stored, own in (
        ("CLIP", manifest["clip"], clip),
        (f"preprocessing {expected}", _digest(manifest["preprocessing"]), _digest(expected)),
    ):
        if stored != own:
            was = "" if name == "CLIP" else f", {manifest['preprocessing']}"
            raise ValueError(
                f"the config's {name} has the digest {own}, and the embeddings in {str(directory)!r} were made with "
                f"{stored}{was}; make them again with `unclip prepare-data embeddings`"
            )


def preprocessing(spec: DataSpec) -> dict[str, Any]:
    """Returns what the embedded pixels depend on besides the dataset."""
    return {"image_field": spec.image_field, "image_size": spec.image_size, "version": PREPROCESSING}


def read_manifest(directory: epath.PathLike) -> dict[str, Any]:
    """Returns the manifest of a folder of embeddings.

    Raises:
      ValueError: If the folder has none, or it is of another schema.
    """
    path = epath.Path(directory) / MANIFEST
    try:
        manifest = json.loads(path.read_text())
        if manifest["schema"] != SCHEMA:
            raise ValueError(f"its schema is {manifest['schema']}, and {SCHEMA} is read here")
        known = {name: manifest[name] for name in ("clip", "preprocessing", "splits")}
        return {"data": manifest.get("data", "unnamed data"), **known}
    except FileNotFoundError as error:
        raise ValueError(f"{str(directory)!r} holds no embeddings: it has no {MANIFEST}") from error
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{str(path)!r} is not a manifest of embeddings: {error}") from error


def _write_split(folder, split, source, encode, spec, rows) -> dict[str, int]:
    embeddings, captions = [], []
    share = spec.max_unreadable
    failed = Unreadable(len(source), share, share * len(source), " and is left out")
    with tqdm.tqdm(total=len(source), desc=split, unit=" records", mininterval=2.0) as bar:
        for batch in _batches(_readable(source, spec, failed, bar), rows):
            embeddings.append(np.asarray(encode(np.stack([record.image for record in batch])), np.float32))
            captions += [record.captions for record in batch]
    if not captions:
        raise ValueError(f"split {split!r} has no record that can be read")
    np.save(os.fspath(folder / EMBEDDINGS), np.concatenate(embeddings), allow_pickle=False)
    (folder / CAPTIONS).write_text("".join(json.dumps(texts, ensure_ascii=False) + "\n" for texts in captions))
    return {"records": len(captions), "unreadable": len(failed)}


def _readable(source: Source, spec: DataSpec, failed: Unreadable, bar: tqdm.tqdm) -> Iterator[Record]:
    """The records that can be read, with images of the config's size. The others are added to `failed`."""
    import grain  # takes two seconds

    def read(index: int) -> Record | str:
        try:
            record = source[index]
            return record._replace(image=downscale(record.image, spec.image_size))
        except UNREADABLE as error:
            return reason_of(error)

    options = grain.ReadOptions(num_threads=spec.threads, prefetch_buffer_size=64 if spec.threads else 0)
    for index, record in enumerate(grain.MapDataset.range(len(source)).map(read).to_iter_dataset(options)):
        bar.update()
        if isinstance(record, str):
            failed.add(index, record)
        else:
            yield record


def _batches(records: Iterator[Record], size: int) -> Iterator[list[Record]]:
    while batch := list(itertools.islice(records, size)):
        yield batch


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
