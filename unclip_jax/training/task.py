"""What the loop asks of a stage: initial parameters, a loss, and pictures to look at."""

from typing import Protocol

import jax
from flax import struct

from unclip_jax import rng
from unclip_jax.arrays import Float, Int, Key, PyTree, UInt8


@struct.dataclass
class Keys:
    """The randomness of one step.

    Args:
      rows: "B", one key a row, from the seed and the row's global number: the same on any number of devices.
      layers: one key for what has no row of its own, such as dropout; from seed, step and micro-batch.
    """

    rows: Key["B"]
    layers: Key[""]


class Task(Protocol):
    """What is learned. Batches are dicts whose first axis is rows; `row` holds each row's global number.

    Frozen parameters are arguments, never constants of the compiled step.

    rows_are_independent: whether the loss of a batch is the mean over its rows of what each has alone. Where it is
    not, the task keeps within `config.training.micro_batches` by itself.

    auxiliary: top-level names of parameters that are trained with the network but are not part of it, such as a linear
    probe. They stay in the workdir when the stage is packaged. A task without the attribute has none.
    """

    rows_are_independent: bool
    auxiliary: tuple[str, ...] = ()

    def init(self, key: Key[""], batch: PyTree) -> PyTree:
        """The parameters, a nested dict. Of the batch only shapes and types matter."""

    def loss(
        self, params: PyTree, frozen: PyTree, batch: PyTree, keys: Keys, *, train: bool = True
    ) -> tuple[Float[""], dict[str, Float[""]]]:
        """The mean loss over the rows of the global batch, and scalars worth recording."""

    def preview(self, params: PyTree, frozen: PyTree, batch: PyTree, keys: Keys) -> UInt8["N H W 3"] | None:
        """Pictures made for the rows of a batch. None: this stage makes none."""


def make_keys(seed: int, purpose: str, step: Int[""], row: Int["B"], part: Int[""] | int = 0) -> Keys:
    """The keys of micro-batch number `part` of a step; `purpose` keeps training, validation and previews apart."""
    base = rng.named(jax.random.key(seed), purpose)
    layers = jax.random.fold_in(jax.random.fold_in(rng.named(base, "layers"), step), part)
    return Keys(rows=rng.rows(rng.named(base, "rows"), row), layers=layers)
