"""Which data a stage is trained on, and how a record becomes a row of a batch."""

import dataclasses

import numpy as np

from unclip_jax.data.corruption import gaussian_blur

# Rows do not depend on these. A folder that has been moved is still the same data.
MAY_CHANGE = ("dir", "cache", "threads", "workers", "max_unreadable")


@dataclasses.dataclass(frozen=True, kw_only=True)
class BlurSpec:
    """Gaussian blur of low-resolution images.

    Attributes:
      kernel: Side of the kernel in pixels, odd.
      sigma: Standard deviation in pixels.
      share: Share of the rows that are blurred.
    """

    kernel: int
    sigma: float
    share: float = 1.0

    def __post_init__(self):
        _check_share("share", self.share)

    def check(self, size: int) -> None:
        """Raises ValueError unless images of `size` px can be blurred."""
        gaussian_blur(np.zeros((size, size, 1)), kernel=self.kernel, sigma=self.sigma)


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataSpec:
    """The section `data` of a config. `sources.check_source` checks that its source provides what it asks for.

    Attributes:
      source: Where records come from, see `sources`: "captioned_shapes" or "captioned_shapes/SIZE" (generated scenes),
        "folder" (images with captions), "embeddings" (written by `unclip prepare-data embeddings`), or "tfds:NAME".
      dir: Folder of the source. If None, $UNCLIP_CACHE or ~/.cache/unclip_jax.
      split: Split to train on.
      eval_split: Split to evaluate and preview on.
      image_field: Which image of a record to use. It is downscaled to `image_size` if it is larger.
      caption_field: Which captions of a TFDS record to use.
      image_size: Side of the image in pixels, before cropping.
      clip_size: Side of `clip_image` in pixels. If None, batches have no `clip_image`.
      crop_fraction: Side of the random crop, as a fraction of the side of the image; 1 disables cropping.
      low_res_size: Side in pixels of the whole low-resolution image, of which `low_res` is the part in the crop. If
        None, batches have no `low_res`.
      blur: Blur of `low_res`. If None, it is not blurred.
      noise: Largest standard deviation of Gaussian noise on `low_res`, whose range is [-1, 1]. Each row draws its own.
      bsr: Share of the rows whose `low_res` is degraded by BSR instead of blur and noise.
      captions: Whether batches have `tokens`.
      negative_captions: Whether batches have `wrong_tokens`, the tokens of negative captions.
      scene_targets: Whether batches have `moments`, numbers that describe the image.
      flip: Whether to flip each image horizontally with probability 0.5.
      cache: Whether to keep decoded records in memory.
      threads: Threads that make batches; 0 makes each batch when it is requested.
      workers: Processes that make batches, each with its own threads; 0 uses this process.
      prefetch: Batches to prepare ahead.
      max_unreadable: Share of the records that may be unreadable and are replaced. If there are more, the run ends.
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
        """How many times smaller the low-resolution image is; None if there is none."""
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
                f"crop_fraction of image_size {size} must give a whole number from 1 to {size}, got "
                f"{self.crop_fraction}, which gives {crop:g} px."
            )
        if self.low_res_size is None:
            return
        if size % self.low_res_size or self.crop_size % self.low_res_factor:
            raise ValueError(
                f"low_res_size must divide image_size {size}, and their ratio the crop of {self.crop_size} px, got "
                f"{self.low_res_size}."
            )

    def _check_low_res(self) -> None:
        for name in ("blur", "noise", "bsr"):
            if getattr(self, name) and self.low_res_size is None:
                raise ValueError(f"{name} applies to the low-resolution image and needs low_res_size, which is None.")
        if self.blur is not None:
            try:
                self.blur.check(self.crop_size // self.low_res_factor)
            except ValueError as error:
                raise ValueError(f"blur.{error}") from error

    def _check_combinations(self) -> None:
        if self.negative_captions and not self.captions:
            raise ValueError("negative_captions needs captions, got captions False.")
        if self.flip and self.captions:
            raise ValueError("flip must be False with captions, which may name left and right, got True.")
        if self.flip and self.scene_targets:
            raise ValueError("flip must be False with scene_targets, which contain positions, got True.")


def _check_share(name: str, value: float) -> None:
    if not 0.0 <= value <= 1.0:
        raise ValueError(f"{name} must be in [0, 1], got {value}.")
