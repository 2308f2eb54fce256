"""Quality of an upsampler compared with bicubic upsampling of the same input.

    PSNR(a, b) = 10 log10(255^2 / mean (a - b)^2)                                                                   (1)
    psnr_gain  = mean over images of PSNR(upsampled, true) - PSNR(bicubic, true)                                    (2)
    flat       = fraction of pixels with every channel within 8 levels of one color of the scene                    (3)

The fraction of flat pixels measures defects that do not affect reading the scene: soft edges, whose pixels have neither
of the adjacent colors, and uneven areas.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from unclip_jax.arrays import UInt8

FLAT_LEVELS = 8
# Mean squared error of rounding to integers. Smaller errors count as this, because the PSNR of 0 would be infinite.
ROUNDING_ERROR = 1.0 / 12.0


@dataclasses.dataclass(frozen=True)
class UpsamplingQuality:
    """Means over images. PSNRs are in dB.

    Attributes:
      n: Number of images.
      psnr: PSNR of the upsampled images.
      psnr_bicubic: PSNR of bicubic upsampling.
      psnr_gain: Difference between the two, Eq. 2.
      flat: Fraction of flat pixels in the upsampled images, Eq. 3.
      flat_bicubic: Fraction of flat pixels after bicubic upsampling.
      flat_true: Fraction of flat pixels in the true images.
      gap_closed: Fraction of the gap between `flat_bicubic` and `flat_true` that the upsampler closes. If None, there
        is no gap.
    """

    n: int
    psnr: float
    psnr_bicubic: float
    psnr_gain: float
    flat: float
    flat_bicubic: float
    flat_true: float
    gap_closed: float | None


def psnr(images: UInt8["N H W 3"], true: UInt8["N H W 3"]) -> np.ndarray:
    """Computes the PSNR of each image in dB, Eq. 1.

    Args:
      images: The images.
      true: The true images.

    Returns:
      float64 [N].
    """
    difference = np.asarray(images, np.float64) - np.asarray(true, np.float64)
    error = np.mean(np.square(difference), axis=(1, 2, 3))
    return 10.0 * np.log10(255.0**2 / np.maximum(error, ROUNDING_ERROR))


def flat(image: UInt8["H W 3"], colors: Sequence[tuple[int, int, int]]) -> float:
    """Computes the fraction of flat pixels, Eq. 3.

    Args:
      image: The image.
      colors: RGB colors of the scene.
    """
    near = [np.all(np.abs(image - np.asarray(color, np.int32)) <= FLAT_LEVELS, axis=-1) for color in colors]
    return float(np.mean(np.any(near, axis=0)))


def upsampling_quality(
    upsampled: UInt8["N H W 3"],
    bicubic: UInt8["N H W 3"],
    true: UInt8["N H W 3"],
    colors: Sequence[Sequence[tuple[int, int, int]]],
) -> UpsamplingQuality:
    """Compares the output of an upsampler and bicubic upsampling with the true images.

    Args:
      upsampled: Output of the upsampler.
      bicubic: Bicubic upsampling of the same inputs.
      true: The true images.
      colors: RGB colors of the scene of each image.
    """
    quality, reference = psnr(upsampled, true), psnr(bicubic, true)
    fractions = [
        float(np.mean([flat(image, scene_colors) for image, scene_colors in zip(images, colors, strict=True)]))
        for images in (upsampled, bicubic, true)
    ]
    gap = fractions[2] - fractions[1]
    return UpsamplingQuality(
        n=len(quality),
        psnr=float(np.mean(quality)),
        psnr_bicubic=float(np.mean(reference)),
        psnr_gain=float(np.mean(quality - reference)),
        flat=fractions[0],
        flat_bicubic=fractions[1],
        flat_true=fractions[2],
        gap_closed=(fractions[0] - fractions[1]) / gap if gap else None,
    )
