"""Data settings: the source of the records, and how a record becomes a batch row."""

import dataclasses

import numpy as np

from unclip_jax.data.corruption import gaussian_blur

# Fields that a resumed run may change: rows do not depend on them, and a moved folder contains the same data.
MAY_CHANGE = ("dir", "cache", "threads", "workers", "max_unreadable")


@dataclasses.dataclass(frozen=True, kw_only=True)
class BlurSpec:
    """Gaussian blur of low-resolution images.

    Attributes:
      kernel: Side of the kernel in pixels, odd.
      sigma: Standard deviation in pixels.
      share: Fraction of the rows that are blurred, in [0, 1].
    """

    kernel: int
    sigma: float
    share: float = 1.0

    def __post_init__(self):
        _check_share("share", self.share)

    def check(self, size: int) -> None:
        """Checks that images of `size` px can be blurred.

        Raises:
          ValueError: If `kernel` or `sigma` is out of range.
        """
        gaussian_blur(np.zeros((size, size, 1)), kernel=self.kernel, sigma=self.sigma)


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataSpec:
    """Section `data` of a config. `sources.check_source` checks it against the source.

    Attributes:
      source: "captioned_shapes" or "captioned_shapes/SIZE" (generated scenes), "folder" (images with captions),
        "embeddings" (written by `unclip prepare-data embeddings`), or "tfds:NAME".
      dir: Folder of the source. If None, captioned shapes are in $UNCLIP_CACHE or ~/.cache/unclip_jax, and TFDS
        datasets in the default folder of TFDS. The sources "folder" and "embeddings" require it.
      split: Split to train on.
      eval_split: Split to evaluate and preview on.
      image_field: Field of the image in a record. The image is downscaled to `image_size` if it is larger.
      caption_field: Field of the captions in a TFDS record.
      image_size: Side of the image in pixels before cropping.
      clip_size: Side of `clip_image` in pixels. If None, batches have no `clip_image`.
      crop_fraction: Side of the random crop, as a fraction of the side of the image; 1 disables cropping.
      low_res_size: Side of the full low-resolution image in pixels before cropping. If None, batches have no `low_res`.
      blur: Blur of `low_res`. If None, it is not blurred.
      noise: Maximum standard deviation of Gaussian noise on `low_res`, whose range is [-1, 1]; 0 disables it. Each row
        samples its own standard deviation.
      bsr: Fraction of the rows whose `low_res` is degraded by BSR instead of blur and noise; 0 disables it.
      captions: Whether batches have `tokens`.
      negative_captions: Whether batches have `wrong_tokens`, the tokens of negative captions.
      scene_targets: Whether batches have `moments`, the regression targets that describe the scene.
      flip: Whether to flip each image horizontally with probability 0.5.
      cache: Whether to keep decoded records in memory.
      threads: Number of threads that prepare batches; 0 prepares each batch when it is requested.
      workers: Number of processes that prepare batches, each with its own threads; 0 uses the main process.
      prefetch: Number of batches to prepare ahead.
      max_unreadable: Fraction of the records that may be unreadable and are replaced. The run fails if there are more.

    Raises:
      ValueError: If a field is out of range, or fields contradict each other.
    """

    source: str = "captioned_shapes"
    dir: str | None = None
    split: str = "train"
    eval_split: str = "test"
    image_field: str = "thumbnail"
    caption_field: str = "captions"
    image_size: int = 64
    clip_size: int | None = None
    crop_fraction: float = 1.0
    low_res_size: int | None = None
    blur: BlurSpec | None = None
    noise: float = 0.0
    bsr: float = 0.0
    captions: bool = False
    negative_captions: bool = False
    scene_targets: bool = False
    flip: bool = False
    cache: bool = False
    threads: int = 2
    workers: int = 0
    prefetch: int = 4
    max_unreadable: float = 0.05

    def __post_init__(self):
        self._check_numbers()
        self._check_sizes()
        self._check_low_res()
        self._check_combinations()

    @property
    def crop_size(self) -> int:
        """Side of the crop in pixels."""
        return round(self.image_size * self.crop_fraction)

    @property
    def low_res_factor(self) -> int | None:
        """Downscaling factor of the low-resolution image. None if batches have none."""
        return None if self.low_res_size is None else self.image_size // self.low_res_size

    def _check_numbers(self) -> None:
        for name in ("image_size", "clip_size", "low_res_size"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be a positive number of pixels, got {value}.")
        for name in ("threads", "workers", "prefetch"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be at least 0, got {getattr(self, name)}.")
        for name in ("noise", "bsr", "max_unreadable"):
            _check_share(name, getattr(self, name))

    def _check_sizes(self) -> None:
        size, crop = self.image_size, self.image_size * self.crop_fraction
        if not 0 < self.crop_fraction <= 1 or crop != self.crop_size:
            raise ValueError(
                f"crop_fraction must give a whole number of pixels from 1 to {size} (image_size {size}), got "
                f"{self.crop_fraction}, which gives {crop:g} px."
            )
        if self.low_res_size is None:
            return
        if size % self.low_res_size or self.crop_size % self.low_res_factor:
            raise ValueError(
                f"low_res_size must divide image_size {size}, and their ratio must divide the crop of "
                f"{self.crop_size} px, got {self.low_res_size}."
            )

    def _check_low_res(self) -> None:
        for name in ("blur", "noise", "bsr"):
            if getattr(self, name) and self.low_res_size is None:
                raise ValueError(f"{name} requires low_res_size, got low_res_size None.")
        if self.blur is not None:
            try:
                self.blur.check(self.crop_size // self.low_res_factor)
            except ValueError as error:
                raise ValueError(f"blur.{error}") from error

    def _check_combinations(self) -> None:
        if self.negative_captions and not self.captions:
            raise ValueError("negative_captions requires captions, got captions False.")
        if self.flip and self.captions:
            raise ValueError("flip must be False with captions, because they may name left and right, got True.")
        if self.flip and self.scene_targets:
            raise ValueError("flip must be False with scene_targets, because they contain positions, got True.")


def _check_share(name: str, value: float) -> None:
    if not 0.0 <= value <= 1.0:
        raise ValueError(f"{name} must be in [0, 1], got {value}.")
