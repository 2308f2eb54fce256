"""How much better an upsampler is than bicubic interpolation of the same input.

    PSNR(a, b) = 10 log10(255^2 / mean (a - b)^2)                                                                   (1)
    psnr_gain  = mean over pictures of PSNR(made, true) - PSNR(bicubic, true)                                       (2)
    flat       = share of pixels of which every channel is within 8 levels of one of the scene's flat colours       (3)

What bicubic blurs is neither colour of an edge, so `flat` sees what a reader of shapes does not: edges that are soft,
and areas that are not even.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from unclip_jax.arrays import UInt8

FLAT_LEVELS = 8
# The square error of rounding to whole levels. Less than this is as good as none, whose PSNR would be infinite.
ROUNDING_ERROR = 1.0 / 12.0


@dataclasses.dataclass(frozen=True)
class UpsamplingQuality:
    """Means over `n` pictures. PSNRs in dB; `gap_closed` is the part of the way from bicubic's `flat` to that of the
    true pictures that the upsampler went (None where the two are the same)."""

    n: int
    psnr: float
    psnr_bicubic: float
    psnr_gain: float
    flat: float
    flat_bicubic: float
    flat_true: float
    gap_closed: float | None


def psnr(made: UInt8["N H W 3"], true: UInt8["N H W 3"]) -> np.ndarray:
    """Equation 1 for each picture, float64 [N]."""
    difference = np.asarray(made, np.float64) - np.asarray(true, np.float64)
    error = np.mean(np.square(difference), axis=(1, 2, 3))
    return 10.0 * np.log10(255.0**2 / np.maximum(error, ROUNDING_ERROR))


def flat(picture: UInt8["H W 3"], colours: Sequence[tuple[int, int, int]]) -> float:
    """Equation 3 for one picture and its scene's colours."""
    near = [np.all(np.abs(picture - np.asarray(colour, np.int32)) <= FLAT_LEVELS, axis=-1) for colour in colours]
    return float(np.mean(np.any(near, axis=0)))


def upsampling_quality(
    made: UInt8["N H W 3"],
    bicubic: UInt8["N H W 3"],
    true: UInt8["N H W 3"],
    colours: Sequence[Sequence[tuple[int, int, int]]],
) -> UpsamplingQuality:
    """Compares what an upsampler made, and bicubic of the same input, with the true pictures.

    Args: colours: for each picture, its scene's flat colours.
    """
    quality, reference = psnr(made, true), psnr(bicubic, true)
    shares = [
        float(np.mean([flat(picture, known) for picture, known in zip(pictures, colours, strict=True)]))
        for pictures in (made, bicubic, true)
    ]
    gap = shares[2] - shares[1]
    return UpsamplingQuality(
        n=len(quality),
        psnr=float(np.mean(quality)),
        psnr_bicubic=float(np.mean(reference)),
        psnr_gain=float(np.mean(quality - reference)),
        flat=shares[0],
        flat_bicubic=shares[1],
        flat_true=shares[2],
        gap_closed=(shares[0] - shares[1]) / gap if gap else None,
    )
