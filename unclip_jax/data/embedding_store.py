"""Precomputed CLIP image embeddings of a dataset, stored with the captions.

    DIR/manifest.json           the dataset, the digest of the CLIP model and the preprocessing; for each split, the
                                numbers of stored records and of unreadable records that were skipped
    DIR/train/embeddings.npy    float32 [N, E], not normalized, in the order of the records of the dataset
    DIR/train/captions.jsonl    the captions of each record, one list per line

A folder is written atomically. It must be on a file system that supports memory mapping.
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
PREPROCESSING = 1  # increase it when a code change alters the pixels for the same image and settings
MANIFEST, EMBEDDINGS, CAPTIONS = "manifest.json", "embeddings.npy", "captions.jsonl"


class EmbeddingStore:
    """The records of one split, with embeddings and captions but no images. Pickled as its path and split.

    Args:
      directory: A folder written by `write_store`.
      split: Name of the split.

    Raises:
      ValueError: If the folder is invalid or does not contain the split.
    """

    def __init__(self, directory: epath.PathLike, split: str):
        self._where = (os.fspath(directory), split)
        manifest = read_manifest(directory)
        if split not in manifest["splits"]:
            available = ", ".join(manifest["splits"])
            raise ValueError(f"split must be one of {available} for {str(directory)!r}, got {split!r}.")
        folder = epath.Path(directory) / split
        try:
            self._embeddings = np.load(os.fspath(folder / EMBEDDINGS), mmap_mode="r", allow_pickle=False)
            # splitlines() would also split at U+2028 and other characters that JSON does not escape.
            lines = (folder / CAPTIONS).read_text().removesuffix("\n").split("\n")
            self._captions = [tuple(json.loads(line)) for line in lines]
        except (OSError, EOFError, ValueError) as error:
            raise ValueError(f"Embeddings in {str(folder)!r} cannot be read: {error}") from error
        expected, actual = manifest["splits"][split]["records"], {len(self._embeddings), len(self._captions)}
        if actual != {expected}:
            raise ValueError(
                f"{str(folder)!r} must have {expected} records according to its manifest, got {len(self._embeddings)} "
                f"embeddings and {len(self._captions)} lines of captions. Run `unclip prepare-data embeddings` again."
            )

    def __len__(self) -> int:
        return len(self._captions)

    def __getitem__(self, index: int) -> Record:
        return Record(None, self._captions[index], np.array(self._embeddings[index]))

    def captions(self) -> Iterator[str]:
        """Yields every caption of every record."""
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
    """Embeds all images and stores the embeddings with the captions.

    Args:
      directory: Output folder, which must not exist.
      sources: The source of each split.
      encode: Maps images, uint8 "N S S 3", to embeddings, float32 "N E".
      clip: Digest of the CLIP model that `encode` uses.
      data: Description of the dataset, see `sources.describe`.
      spec: Data settings: how images are prepared, how many threads read them, and how many may be unreadable.
      rows: Maximum number of images per call of `encode`.

    Returns:
      {split: {"records": number of embeddings, "unreadable": number of records skipped}}.

    Raises:
      ValueError: If `directory` exists, more records are unreadable than `spec.max_unreadable` allows, or a split has
        no readable records.
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
    """Checks that a folder does not exist.

    Raises:
      ValueError: If it exists.
    """
    if epath.Path(directory).exists():
        raise ValueError(f"{str(directory)!r} already exists. Embeddings must be written to a new folder.")


def check_made_by(directory: epath.PathLike, *, clip: str, spec: DataSpec) -> None:
    """Checks that stored embeddings were computed with the CLIP model and the preprocessing of a config.

    Args:
      directory: Folder of the embeddings.
      clip: Digest of the config's CLIP model.
      spec: The config's data settings.

    Raises:
      ValueError: If the digest or the preprocessing differs, or if the manifest is missing or invalid.
    """
    manifest = read_manifest(directory)
    expected = preprocessing(spec)
    for name, stored, own in (
        ("CLIP", manifest["clip"], clip),
        (f"preprocessing {expected}", _digest(manifest["preprocessing"]), _digest(expected)),
    ):
        if stored != own:
            details = "" if name == "CLIP" else f", {manifest['preprocessing']}"
            raise ValueError(
                f"Embeddings in {str(directory)!r} must be computed with the config's {name}, whose digest is {own}, "
                f"got digest {stored}{details}. Run `unclip prepare-data embeddings` again."
            )


def preprocessing(spec: DataSpec) -> dict[str, Any]:
    """Returns the settings and the code version that determine the pixels of the embedded images."""
    return {"image_field": spec.image_field, "image_size": spec.image_size, "version": PREPROCESSING}


def read_manifest(directory: epath.PathLike) -> dict[str, Any]:
    """Returns the manifest of a folder of embeddings.

    Raises:
      ValueError: If the manifest is missing or invalid, or its schema is not supported.
    """
    path = epath.Path(directory) / MANIFEST
    try:
        manifest = json.loads(path.read_text())
        if manifest["schema"] != SCHEMA:
            raise ValueError(f"schema must be {SCHEMA}, got {manifest['schema']!r}")
        known = {name: manifest[name] for name in ("clip", "preprocessing", "splits")}
        return {"data": manifest.get("data", "unnamed data"), **known}
    except FileNotFoundError as error:
        raise ValueError(f"{str(directory)!r} contains no embeddings: {MANIFEST} is missing.") from error
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{str(path)!r} is not a valid manifest of embeddings: {error}") from error


def _write_split(folder, split, source, encode, spec, rows) -> dict[str, int]:
    embeddings, captions = [], []
    share = spec.max_unreadable
    failed = Unreadable(len(source), share, share * len(source), " and is skipped")
    with tqdm.tqdm(total=len(source), desc=split, unit=" records", mininterval=2.0) as bar:
        for batch in _batches(_readable(source, spec, failed, bar), rows):
            embeddings.append(np.asarray(encode(np.stack([record.image for record in batch])), np.float32))
            captions += [record.captions for record in batch]
    if not captions:
        raise ValueError(f"Split {split!r} has no readable records.")
    np.save(os.fspath(folder / EMBEDDINGS), np.concatenate(embeddings), allow_pickle=False)
    (folder / CAPTIONS).write_text("".join(json.dumps(texts, ensure_ascii=False) + "\n" for texts in captions))
    return {"records": len(captions), "unreadable": len(failed)}


def _readable(source: Source, spec: DataSpec, failed: Unreadable, bar: tqdm.tqdm) -> Iterator[Record]:
    """Yields the readable records, with downscaled images. Adds the others to `failed`."""
    import grain  # lazy: takes two seconds

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
