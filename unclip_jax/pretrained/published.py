"""Published models that have been identified but not loaded."""

import dataclasses
from collections.abc import Mapping, Sequence

from etils import epath

from unclip_jax.arrays import PyTree
from unclip_jax.pretrained.lazy_tensor import LazyTensor
from unclip_jax.pretrained.rules import Rule
from unclip_jax.stages.spec import StageSpec

TOKENIZER_FILES = ("vocab.json", "tokenizer.json")


@dataclasses.dataclass(frozen=True, eq=False)
class Weights:
    """Weights of a network.

    Attributes:
      tensors: The tensors by published name.
      rules: The rules that convert them to parameters.
    """

    tensors: Mapping[str, LazyTensor]
    rules: Sequence[Rule]


@dataclasses.dataclass(frozen=True, eq=False)
class PublishedStage:
    """One stage of a published model.

    Attributes:
      spec: Spec of the stage.
      weights: Weights of its network.
      source: The file or folder of the weights, for messages.
      last: Weights of a separate network for the last sampling step. If None, all steps use `weights`.
      extras: Untrained arrays of the stage, such as embedding statistics.
    """

    spec: StageSpec
    weights: Weights
    source: str
    last: Weights | None = None
    extras: Mapping[str, PyTree] = dataclasses.field(default_factory=dict)

    @property
    def name(self) -> str:
        """Name of the stage."""
        return self.spec.name


@dataclasses.dataclass(frozen=True, eq=False)
class Published:
    """A published model.

    Attributes:
      family: Family and layout, such as "CLIP in OpenCLIP's layout".
      stages: The stages in execution order.
      tokenizer: The folder of the tokenizer. If None, the model includes no tokenizer.
      tokenizer_name: Hub id of the tokenizer that the model was trained with. If None, the model has no text encoder.
    """

    family: str
    stages: Sequence[PublishedStage]
    tokenizer: epath.Path | None = None
    tokenizer_name: str | None = None


def tokenizer_in(folder: epath.Path) -> epath.Path | None:
    """Returns the folder if it contains a tokenizer, otherwise None."""
    return folder if any((folder / name).exists() for name in TOKENIZER_FILES) else None
