"""The suite "shapes", which compares the scenes in generated images with their captions.

Image i of a measure is sampled with the seed of the run and image index i. Measures with the same scenes therefore use
the same noise and differ only in the stages that they skip.
"""

from unclip_jax.evaluation.suite import Suite
from unclip_jax.evaluation.suites.shapes import (
    accuracy_measures,
    embedding_measures,
    image_measures,
    upsampler_measures,
)

SUITE = Suite(
    name="shapes",
    measures=(
        *accuracy_measures.MEASURES,
        *image_measures.MEASURES,
        *upsampler_measures.MEASURES,
        *embedding_measures.MEASURES,
    ),
    image_size=256,
)
