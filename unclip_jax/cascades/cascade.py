"""A cascade in memory: trained stages in the order in which they run.

Any stage may be absent: a cascade of CLIP alone embeds, one without upsamplers stops at the decoder's size.
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
    """Stages in the order in which they run.

    Attributes:
      stages: The stages by name.
      description: One line that says what the cascade can generate; None if nobody said.
      devices: The local devices that sample.
      path: The folder or name that it was loaded from.
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
        """Raises ValueError if parameters were deleted."""
        if any(array.is_deleted() for stage in self.stages.values() for array in stage.device_arrays()):
            raise ValueError(
                f"cascade {self.path!r} was freed while it sampled (low_memory=True), and cannot be used again; open "
                "it again, by load_cascade"
            )

    def stages_producing(self, output: str) -> list[Stage]:
        """Returns the stages that produce "features", "embedding", "image" or "guide"."""
        return [stage for stage in self.stages.values() if kind_of(stage).produces == output]

    def stage_producing(self, output: str) -> Stage:
        """Returns the first of `stages_producing`.

        Raises:
          ValueError: If there is none.
        """
        found = self.stages_producing(output)
        if not found:
            raise self.lacks(f"a stage that produces {_ARTICLES[output]}")
        return found[0]

    def stage(self, name: str, *, reader: str) -> Stage:
        """Returns the stage `name`, which the stage `reader` was trained with.

        Raises:
          ValueError: If the cascade does not have it.
        """
        if name not in self.stages:
            raise self.lacks(f"stage {name!r}, which {reader} reads")
        return self.stages[name]

    def lacks(self, what: str) -> ValueError:
        """Returns the error for something that this cascade does not have."""
        return ValueError(f"cascade {self.path!r} has no {what.removeprefix('a ')}; it has: {', '.join(self.stages)}")

    @property
    def tokenizer(self) -> CaptionTokenizer | None:
        """The tokenizer of the first stage that reads captions; None if no stage does."""
        return next((stage.tokenizer for stage in self.stages.values() if stage.tokenizer is not None), None)

    @property
    def statistics(self) -> PyTree | None:
        """Mean and std of the embeddings that the first prior works on; None without a prior."""
        return next((s.extras["statistics"] for s in self.stages.values() if "statistics" in s.extras), None)


_ARTICLES = {"features": "features", "embedding": "an embedding", "image": "images", "guide": "guidance"}


def execution_order(specs: Mapping[str, StageSpec]) -> list[str]:
    """Returns the names of stages in the order in which they run: encoders, priors, image stages by size, guides."""

    def place(name: str) -> tuple:
        spec = specs[name]
        low_res = (0, 0) if spec.low_res_size is None else images.height_width(spec.low_res_size)
        return _ORDER.index(kind_of(spec).produces), low_res

    return sorted(specs, key=place)
