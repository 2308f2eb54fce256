"""What a suite judges, as functions: whose they are, no measure knows."""

import dataclasses
from collections.abc import Callable
from typing import Protocol

from unclip_jax.arrays import Float, UInt8

# Called with row, pictures done and pictures in all, before the first and after every batch.
Progress = Callable[[str, int, int], None]


class MakePictures(Protocol):
    """A picture for each prompt. `image_embeddings` stand in for what the prior would make of the prompts (None: the
    prior makes them); `empty_caption`: the decoder is given the empty caption in place of the prompts."""

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
    """An image embedding for each prompt, raw as CLIP's."""

    def __call__(self, prompts: list[str], *, seed: int, first_image: int) -> Float["N E"]: ...


class Upsample(Protocol):
    """Pictures of size x size from small ones in [-1, 1]."""

    def __call__(self, low_res: Float["N h w 3"], *, size: int, seed: int, first_image: int) -> UInt8["N H W 3"]: ...


@dataclasses.dataclass(frozen=True)
class Subject:
    """The functions. A suite calls only those that its rows need.

    `encode_image` and `encode_text` give raw CLIP embeddings "N E", of uint8 pictures "N H W 3" and of prompts.
    `first_image` is the number of the first picture of the call; noise hangs on (seed, number).
    """

    make_pictures: MakePictures
    encode_image: Callable[[UInt8["N H W 3"]], Float["N E"]]
    encode_text: Callable[[list[str]], Float["N E"]]
    sample_prior: SamplePrior
    upsample: Upsample


def no_progress(row: str, done: int, total: int) -> None:
    """Shows nothing."""
