"""The model under test, as a set of functions. Suites do not depend on how they are implemented."""

import dataclasses
from collections.abc import Callable
from typing import Protocol

from unclip_jax.arrays import Float, UInt8


class GenerateImages(Protocol):
    """A function that generates one image per prompt."""

    def __call__(
        self,
        prompts: list[str],
        *,
        seed: int,
        first_image: int,
        image_embeddings: Float["N E"] | None = None,
        empty_caption: bool = False,
    ) -> UInt8["N H W 3"]:
        """Generates the images.

        Args:
          prompts: The prompts.
          seed: Random seed.
          first_image: Index of the first image. The noise of an image depends on `seed` and its index.
          image_embeddings: One per prompt, not normalized. If None, the prior predicts them.
          empty_caption: Whether the decoder receives the empty caption instead of the prompts.
        """


class SamplePrior(Protocol):
    """A function that samples one image embedding per prompt from the prior."""

    def __call__(self, prompts: list[str], *, seed: int, first_image: int) -> Float["N E"]:
        """Samples the embeddings, which are not normalized. See `GenerateImages` for the arguments."""


class Upsample(Protocol):
    """A function that upsamples images."""

    def __call__(self, low_res: Float["N h w 3"], *, size: int, seed: int, first_image: int) -> UInt8["N H W 3"]:
        """Upsamples images.

        Args:
          low_res: Images in [-1, 1].
          size: Height and width of the result in pixels.
          seed: Random seed.
          first_image: Index of the first image.
        """


@dataclasses.dataclass(frozen=True)
class ModelUnderTest:
    """The functions that measures call. A measure calls only those that it needs.

    Attributes:
      generate_images: Generates images from prompts.
      encode_image: Returns CLIP embeddings of images, not normalized.
      encode_text: Returns CLIP embeddings of prompts, not normalized.
      sample_prior: Samples image embeddings from prompts.
      upsample: Upsamples images.
    """

    generate_images: GenerateImages
    encode_image: Callable[[UInt8["N H W 3"]], Float["N E"]]
    encode_text: Callable[[list[str]], Float["N E"]]
    sample_prior: SamplePrior
    upsample: Upsample
