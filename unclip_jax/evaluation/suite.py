"""Suites: measures of one model, run one after the other."""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from unclip_jax.errors import unknown
from unclip_jax.evaluation.model_under_test import ModelUnderTest
from unclip_jax.evaluation.table import Result, Table

T = TypeVar("T")
# Called with a measure's name, the number of finished items and their total: before the first and after every batch.
Progress = Callable[[str, int, int], None]

BATCH_SIZE = 32  # prompts per call of the model; a power of two, to which samplers pad their rows


def no_progress(measure: str, done: int, total: int) -> None:
    """Ignores the progress."""


@dataclasses.dataclass(frozen=True)
class Run:
    """The run of one measure.

    Attributes:
      seed: Determines the scenes, the captions and the noise.
      num_prompts: Number of prompts, at least 2. A measure may use another number.
      progress: Called with the number of finished items and their total.
    """

    model: ModelUnderTest
    seed: int
    num_prompts: int
    progress: Callable[[int, int], None]
    _shared: dict[Callable[["Run"], Any], Any]

    def batches(self, items: Sequence[T]) -> Iterator[tuple[int, Sequence[T]]]:
        """Yields the index of the first item and the items of each batch, and reports the progress."""
        self.progress(0, len(items))
        for start in range(0, len(items), BATCH_SIZE):
            batch = items[start : start + BATCH_SIZE]
            yield start, batch
            self.progress(start + len(batch), len(items))

    def shared(self, compute: Callable[["Run"], T]) -> T:
        """Returns `compute(run)`, computed once for all measures of a call of `run_measures`.

        Args:
          compute: A function at module level. Equal functions are recognized by identity.
        """
        if compute not in self._shared:
            self._shared[compute] = compute(self)
        return self._shared[compute]


def under_own_name(name: str, result: Result) -> Mapping[str, Any]:
    """Returns the JSON object with the result under the measure's name."""
    return {name: result}


@dataclasses.dataclass(frozen=True)
class Measure:
    """A measure of a model: one line of a table.

    Attributes:
      run: Computes the result.
      table: The table of the line, and the line's format.
      describe: What is measured, as a phrase for lists of measures.
      to_json: Returns what the measure adds to the suite's JSON object, given its name and its result. Objects that
        several measures add under the same key are merged.
      generates_images: Whether `run` calls `generate_images`. If so, the suite's image size applies.
    """

    name: str
    run: Callable[[Run], Result]
    table: Table
    describe: str
    to_json: Callable[[str, Result], Mapping[str, Any]] = under_own_name
    generates_images: bool = True


@dataclasses.dataclass(frozen=True)
class Suite:
    """Measures that are reported together.

    Attributes:
      measures: In the order in which they run.
      image_size: Height and width in pixels that generated images must have. If None, images of any size are measured.

    Raises:
      ValueError: If it has no measures, two with the same name, or one with the reserved name "settings".
    """

    name: str
    measures: tuple[Measure, ...]
    image_size: int | None = None

    def __post_init__(self):
        names = [measure.name for measure in self.measures]
        if not names or "settings" in names:
            raise ValueError(f"suite {self.name!r} must have measures, none of them named settings, got {names}.")
        if len(set(names)) < len(names):
            raise ValueError(f"The measures of suite {self.name!r} must have different names, got {', '.join(names)}.")

    def select(self, names: Sequence[str], *, where: str | None = None) -> tuple[Measure, ...]:
        """Returns the measures with these names, in the order of the suite.

        Args:
          where: The setting that contains the names, for the error message.

        Raises:
          ValueError: If a name is unknown or there are no names.
        """
        known = [measure.name for measure in self.measures]
        if not names:
            raise ValueError(f"{where or 'names'} must contain a measure. Available: {', '.join(known)}.")
        for name in names:
            if name not in known:
                raise unknown("measure", name, ", ".join(known), where=where or f"suite {self.name!r}")
        return tuple(measure for measure in self.measures if measure.name in names)


def run_measures(
    measures: Sequence[Measure],
    model: ModelUnderTest,
    *,
    seed: int = 0,
    num_prompts: int = 200,
    progress: Progress = no_progress,
) -> Iterator[tuple[Measure, Result]]:
    """Runs measures and yields each with its result as soon as it is known.

    Args:
      seed: Determines the scenes, the captions and the noise.
      num_prompts: Prompts per measure, at least 2. A measure may use another number.

    Raises:
      ValueError: If `num_prompts` is less than 2.
    """
    if num_prompts < 2:
        raise ValueError(f"num_prompts must be at least 2, got {num_prompts}.")
    shared: dict[Callable[[Run], Any], Any] = {}
    return (
        (measure, measure.run(Run(model, seed, num_prompts, functools.partial(progress, measure.name), shared)))
        for measure in measures
    )
