"""A published model: its networks as tensors in their files, with the rules that turn them into parameters."""

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
    """The tensors of a network by their published names, and the rules that turn them into parameters."""

    tensors: Mapping[str, LazyTensor]
    rules: Sequence[Rule]


@dataclasses.dataclass(frozen=True, eq=False)
class PublishedStage:
    """One network, or two that share the steps of sampling.

    Attributes:
      spec: The stage that it becomes.
      weights: Its weights.
      source: The file or folder of the weights, for messages.
      last: The weights for the last sampling step, if that step has its own network.
      extras: Untrained arrays of the stage, such as embedding statistics.
    """

    spec: StageSpec
    weights: Weights
    source: str
    last: Weights | None = None
    extras: Mapping[str, PyTree] = dataclasses.field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.spec.name


@dataclasses.dataclass(frozen=True, eq=False)
class Published:
    """The networks of a published model, in execution order, and its tokenizer.

    Attributes:
      family: Family and layout, such as "CLIP in OpenCLIP's layout".
      stages: The networks.
      tokenizer: The folder of the model's tokenizer. If None, the model does not include one.
      tokenizer_name: Hub id of the tokenizer that the model was trained with. If None, the model reads no captions.
    """

    family: str
    stages: Sequence[PublishedStage]
    tokenizer: epath.Path | None = None
    tokenizer_name: str | None = None


def tokenizer_in(folder: epath.Path) -> epath.Path | None:
    """Returns the folder if it contains a tokenizer, otherwise None."""
    return folder if any((folder / name).exists() for name in TOKENIZER_FILES) else None
