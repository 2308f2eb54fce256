"""A published model, recognised and not yet read: its networks as tensors in their files, with the rules for them."""

import dataclasses
from collections.abc import Mapping, Sequence

from etils import epath

from unclip_jax.arrays import PyTree
from unclip_jax.pretrained.stored_tensor import StoredTensor
from unclip_jax.pretrained.weight_mapping import Rule
from unclip_jax.stages.spec import StageSpec


@dataclasses.dataclass(frozen=True, eq=False)
class Weights:
    """The tensors of a network, by their published names, and the rules by which they become parameters."""

    tensors: Mapping[str, StoredTensor]
    rules: Sequence[Rule]


@dataclasses.dataclass(frozen=True, eq=False)
class PublishedStage:
    """One network, or two that share the steps of its sampling.

    Args:
      spec: The stage that it becomes.
      weights: Its weights.
      source: The file or folder of the weights, for messages.
      last: The weights of the last sampling step, if it has its own.
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
    """The networks of a published model in the order in which they run, and what they need beside their weights.

    Args:
      family: what was recognised, such as "CLIP in OpenCLIP's layout".
      tokenizer: a folder; None: the model brings none.
      tokenizer_name: on the hub, of the tokenizer that it was trained with; None: it reads no captions.
    """

    family: str
    stages: Sequence[PublishedStage]
    tokenizer: epath.Path | None = None
    tokenizer_name: str | None = None
