"""Cascades in memory: trained stages in execution order.

Any stage may be missing. A cascade with only a CLIP computes embeddings. Without upsamplers, images have the size of
the decoder.
"""

import dataclasses
from collections.abc import Mapping

import jax

from unclip_jax import images
from unclip_jax.arrays import PyTree
from unclip_jax.kinds import kind_of
from unclip_jax.stages.spec import StageSpec
from unclip_jax.stages.stage import CaptionTokenizer, Stage

_ORDER = ("features", "embedding", "image", "guide")


@dataclasses.dataclass(frozen=True, eq=False)
class Cascade:
    """Trained stages in execution order.

    Attributes:
      stages: Stages by name.
      description: Description of the images that the cascade can generate, as one line that completes "The cascade
        generates ...". If None, there is no description.
      devices: Local devices that sample.
      path: Source from which the cascade was loaded, see `load_cascade`.
    """

    stages: Mapping[str, Stage]
    description: str | None
    devices: tuple[jax.Device, ...]
    path: str

    def delete_params_except(self, *stages: Stage) -> None:
        """Frees the device memory of every stage except `stages`.

        Objects that share these arrays, such as a cascade derived from this one, become unusable as well.
        """
        kept = {id(array) for stage in stages for array in stage.device_arrays()}
        for stage in self.stages.values():
            for array in stage.device_arrays():
                if id(array) not in kept:
                    array.delete()

    def check_not_deleted(self) -> None:
        """Raises ValueError if parameters have been deleted."""
        if any(array.is_deleted() for stage in self.stages.values() for array in stage.device_arrays()):
            raise ValueError(
                f"cascade {self.path!r} has released its parameters (low_memory=True). Reload it with load_cascade."
            )

    def stages_producing(self, output: str) -> list[Stage]:
        """Returns the stages whose output is "features", "embedding", "image" or "guide"."""
        return [stage for stage in self.stages.values() if kind_of(stage).produces == output]

    def stage_producing(self, output: str) -> Stage:
        """Returns the first of `stages_producing`.

        Raises:
          ValueError: If there is no such stage.
        """
        found = self.stages_producing(output)
        if not found:
            raise self.lacks(f"a stage that produces {_ARTICLES[output]}")
        return found[0]

    def stage(self, name: str, *, reader: str) -> Stage:
        """Returns a stage by name.

        Args:
          name: Name of the stage.
          reader: Name of the stage that depends on it, for the error message.

        Raises:
          ValueError: If the cascade does not have the stage.
        """
        if name not in self.stages:
            raise self.lacks(f"stage {name!r}, which {reader} depends on")
        return self.stages[name]

    def lacks(self, what: str) -> ValueError:
        """Returns the error for a missing stage.

        Args:
          what: Description of the stage, such as "a prior".
        """
        available = ", ".join(self.stages)
        return ValueError(f"cascade {self.path!r} has no {what.removeprefix('a ')}. Available stages: {available}.")

    @property
    def tokenizer(self) -> CaptionTokenizer | None:
        """Tokenizer of the first stage that reads captions, or None if there is no such stage."""
        return next((stage.tokenizer for stage in self.stages.values() if stage.tokenizer is not None), None)

    @property
    def statistics(self) -> PyTree | None:
        """Mean and standard deviation of the embeddings of the first prior, or None without a prior."""
        return next((s.extras["statistics"] for s in self.stages.values() if "statistics" in s.extras), None)


_ARTICLES = {"features": "features", "embedding": "an embedding", "image": "images", "guide": "guidance"}


def execution_order(specs: Mapping[str, StageSpec]) -> list[str]:
    """Returns the names of stages in execution order: encoders, priors, image stages, guides.

    Image stages are ordered by `low_res_size`, and those without come first.
    """

    def rank(name: str) -> tuple:
        spec = specs[name]
        low_res = (0, 0) if spec.low_res_size is None else images.height_width(spec.low_res_size)
        return _ORDER.index(kind_of(spec).produces), low_res

    return sorted(specs, key=rank)
