"""A published model, recognised and not yet read: its networks as tensors in their files, with the rules for them."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from etils import epath

from unclip_jax.pretrained.stored_tensor import StoredTensor
from unclip_jax.pretrained.weight_mapping import Rule


@dataclasses.dataclass(frozen=True, eq=False)
class Weights:
    """The tensors of a network, by their published names, and the rules by which they become parameters."""

    tensors: Mapping[str, StoredTensor]
    rules: Sequence[Rule]


@dataclasses.dataclass(frozen=True, eq=False)
class PublishedStage:
    """One network, or two that share the steps of its sampling.

    Args:
      name: of the stage that it becomes, such as "decoder".
      config: what a cascade's config.json says of it: kind, model, and where it is sampled diffusion and sampling.
      source: which file or folder the weights come from, for messages.
      last: the weights for the last step of sampling; None: the same.
    """

    name: str
    config: Mapping[str, Any]
    weights: Weights
    source: str
    last: Weights | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class Published:
    """The networks of a published model in the order in which they run, and what they need beside their weights.

    Args:
      family: what was recognised, such as "CLIP in OpenCLIP's layout".
      tokenizer: a folder; None: the model brings none.
      tokenizer_name: on the hub, of the tokenizer that it was trained with; None: it reads no captions.
      statistics: mean and deviation, float32 "E", of the embeddings that its prior works on; None: there is no prior.
    """

    family: str
    stages: Sequence[PublishedStage]
    tokenizer: epath.Path | None = None
    statistics: Mapping[str, np.ndarray] | None = None
    tokenizer_name: str | None = None
