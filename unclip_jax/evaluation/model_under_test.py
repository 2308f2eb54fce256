"""The model under test, as a set of functions. Suites do not depend on how they are implemented."""

import dataclasses
from collections.abc import Callable
from typing import Protocol

from unclip_jax.arrays import Float, UInt8


class GenerateImages(Protocol):
    """Generates one image per prompt.

    Args:
      first_image: Index of the first image. The noise of an image depends on `seed` and its index.
      image_embeddings: One per prompt, not normalized. If None, the prior predicts them.
      empty_caption: Whether the decoder receives the empty caption instead of the prompts.
    """

    def __call__(
        self,
        prompts: list[str],
        *,
        seed: int,
        first_image: int,
        image_embeddings: Float["N E"] | None = None,
        empty_caption: bool = False,
    ) -> UInt8["N H W 3"]: ...


class SamplePrior(Protocol):
    """Samples one image embedding per prompt from the prior, not normalized, as CLIP returns them."""

    def __call__(self, prompts: list[str], *, seed: int, first_image: int) -> Float["N E"]: ...


class Upsample(Protocol):
    """Upsamples images in [-1, 1] to size x size."""

    def __call__(self, low_res: Float["N h w 3"], *, size: int, seed: int, first_image: int) -> UInt8["N H W 3"]: ...


@dataclasses.dataclass(frozen=True)
class ModelUnderTest:
    """The functions that measures call. A measure calls only those that it needs.

    Attributes:
      encode_image: Returns CLIP embeddings of images, not normalized.
      encode_text: Returns CLIP embeddings of prompts, not normalized.
    """

    generate_images: GenerateImages
    encode_image: Callable[[UInt8["N H W 3"]], Float["N E"]]
    encode_text: Callable[[list[str]], Float["N E"]]
    sample_prior: SamplePrior
    upsample: Upsample
