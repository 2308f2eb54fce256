"""Generation of single captioned-shapes records as functions of split, index and size."""

import copy
import io
import zlib
from typing import Any

import numpy as np
from PIL import Image

from unclip_jax.data.captioned_shapes.captions import Caption, captions
from unclip_jax.data.captioned_shapes.dataset_sizes import DATASET_SIZES
from unclip_jax.data.captioned_shapes.drawing import draw, thumbnail
from unclip_jax.data.captioned_shapes.negative_captions import negative_captions
from unclip_jax.data.captioned_shapes.scene import Scene, recolour, sample_scene

CAPTIONS_PER_RECORD = 5
NEGATIVE_CAPTIONS = "wrong_captions"  # name of the stored field


def describe(split: str, index: int, size: str = "full") -> tuple[Scene, list[Caption], list[Caption]]:
    """Generates the scene, the captions and the negative captions of a record.

    Args:
      split: One of SPLITS.
      index: Index of the record before shuffling. TFDS stores the records in a shuffled but reproducible order.
      size: One of DATASET_SIZES.

    Returns:
      The scene, its captions, and one negative caption per caption, or an empty list if the size has no negative
      captions.
    """
    seed = [zlib.crc32(split.encode()), index]
    rng, change = np.random.default_rng(seed), np.random.default_rng([*seed, 1])
    extra = DATASET_SIZES[size].extra
    if extra is not None and split == "train" and index >= extra.start:
        scene = sample_scene(rng, num_objects=2 if change.random() < extra.two_objects else 1)
        scene = recolour(scene, change) if change.random() < extra.recoloured else scene
    else:
        scene = sample_scene(rng, held_out=split == "compositional")
    negatives = []
    if DATASET_SIZES[size].negative_captions:
        negatives = negative_captions(scene, copy.deepcopy(rng), CAPTIONS_PER_RECORD, change=change)
    return scene, captions(scene, rng, CAPTIONS_PER_RECORD), negatives


def make_record(split: str, index: int, size: str = "full") -> dict[str, Any]:
    """Generates a record in the form that TFDS stores. See `describe` for the arguments."""
    scene, positives, negatives = describe(split, index, size)
    image = draw(scene)
    record = {
        # TFDS stores PNG files as they are, but needs TensorFlow to encode arrays.
        "image": io.BytesIO(_encode_png(image)),
        "thumbnail": io.BytesIO(_encode_png(thumbnail(image))),
        "captions": [caption.text for caption in positives],
        "scene": scene.to_json(),
    }
    return {**record, NEGATIVE_CAPTIONS: [caption.text for caption in negatives]} if negatives else record


def _encode_png(image: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG", compress_level=3)
    return buffer.getvalue()
