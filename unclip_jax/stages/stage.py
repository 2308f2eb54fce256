"""A stage in memory: a trained network with everything that belongs to it."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import jax
from flax import linen as nn

from unclip_jax.arrays import PyTree
from unclip_jax.sharding.placement import replicated
from unclip_jax.stages.spec import StageSpec


class CaptionTokenizer(Protocol):
    """What turns captions into rows of token ids."""

    context_length: int
    vocab_size: int

    def encode(self, texts: Sequence[str], *, on_truncate: Callable[[str], None] | None = None) -> PyTree:
        """Returns the token ids of `texts`, and a mask if the tokenizer marks its padding."""

    def unknown_words(self, text: str) -> list[str]:
        """Returns the words of `text` that no training caption contained; empty if that is not known."""


@dataclasses.dataclass(frozen=True, eq=False)
class Stage:
    """One trained network.

    Attributes:
      spec: Its description.
      module: The linen module.
      params: Its parameters, on every device that samples, in the types of `precision.parameter_dtype`. Those of a
        prior that is not the cascade's first are on the host.
      extras: Untrained arrays of the stage, such as embedding statistics, on the host.
      last_step_params: The parameters of the last sampling step, if it has its own.
      tokenizer: The tokenizer, if the stage reads captions itself.
    """

    spec: StageSpec
    module: nn.Module
    params: PyTree
    extras: Mapping[str, PyTree] = dataclasses.field(default_factory=dict)
    last_step_params: PyTree | None = None
    tokenizer: CaptionTokenizer | None = None

    @property
    def name(self) -> str:
        return self.spec.name

    def on_devices(self, devices: Sequence[jax.Device]) -> "Stage":
        """Returns the stage with its parameters on every device; itself if they are on devices already."""
        if len(self.device_arrays()) == len(jax.tree.leaves((self.params, self.last_step_params))):
            return self
        params, last = jax.device_put((self.params, self.last_step_params), replicated(devices))
        return dataclasses.replace(self, params=params, last_step_params=last)

    def device_arrays(self) -> list[jax.Array]:
        """Returns all of the stage's arrays on devices."""
        leaves = jax.tree.leaves((self.params, self.last_step_params))
        return [leaf for leaf in leaves if isinstance(leaf, jax.Array)]
