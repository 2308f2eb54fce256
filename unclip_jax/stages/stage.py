"""Stages in memory: trained networks with their parameters, extras and tokenizer."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import jax
from flax import linen as nn

from unclip_jax.arrays import PyTree
from unclip_jax.sharding.placement import replicated
from unclip_jax.stages.spec import StageSpec


class CaptionTokenizer(Protocol):
    """Protocol of the tokenizer of a stage that reads captions.

    Attributes:
      context_length: Number of ids per row, including padding.
      vocab_size: Number of ids.
    """

    context_length: int
    vocab_size: int

    def encode(self, texts: Sequence[str], *, on_truncate: Callable[[str], None] | None = None) -> PyTree:
        """Returns the token ids of `texts`, with a mask if the tokenizer provides one.

        Args:
          texts: N texts. Texts that are too long are truncated.
          on_truncate: Called with a one-line message for each truncated text. If None, a warning is issued.
        """

    def unknown_words(self, text: str) -> list[str]:
        """Returns the words of `text` that no training caption contained; empty if unknown."""


@dataclasses.dataclass(frozen=True, eq=False)
class Stage:
    """Trained network with its description.

    Attributes:
      spec: Description of the stage.
      module: The linen module.
      params: Parameters, replicated on every device that samples, with the dtypes of `precision.parameter_dtype`.
        Parameters of all priors but the cascade's first are host arrays.
      extras: Untrained host arrays, such as embedding statistics.
      last_step_params: Parameters of the last sampling step. If None, `params` is used.
      tokenizer: Tokenizer of the stage. If None, the stage does not read captions itself.
    """

    spec: StageSpec
    module: nn.Module
    params: PyTree
    extras: Mapping[str, PyTree] = dataclasses.field(default_factory=dict)
    last_step_params: PyTree | None = None
    tokenizer: CaptionTokenizer | None = None

    @property
    def name(self) -> str:
        """Name of the stage in its cascade."""
        return self.spec.name

    def on_devices(self, devices: Sequence[jax.Device]) -> "Stage":
        """Returns the stage with its parameters replicated on every device.

        If all parameters are device arrays already, returns the stage itself.
        """
        if len(self.device_arrays()) == len(jax.tree.leaves((self.params, self.last_step_params))):
            return self
        params, last = jax.device_put((self.params, self.last_step_params), replicated(devices))
        return dataclasses.replace(self, params=params, last_step_params=last)

    def device_arrays(self) -> list[jax.Array]:
        """Returns the parameters that are device arrays, including those of the last sampling step."""
        leaves = jax.tree.leaves((self.params, self.last_step_params))
        return [leaf for leaf in leaves if isinstance(leaf, jax.Array)]
