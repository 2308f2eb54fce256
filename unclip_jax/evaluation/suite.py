"""Suites of measures, and the loop that runs them on a model."""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from unclip_jax.errors import unknown
from unclip_jax.evaluation.model_under_test import ModelUnderTest
from unclip_jax.evaluation.table import Result, Table

T = TypeVar("T")
# Called before the first and after every batch with the measure's name, the number of finished items and their total.
Progress = Callable[[str, int, int], None]

BATCH_SIZE = 32  # prompts per call of the model; a power of two, because samplers pad the number of rows to one


def no_progress(measure: str, done: int, total: int) -> None:
    """Ignores all progress reports."""


@dataclasses.dataclass(frozen=True)
class Run:
    """One run of a measure.

    Attributes:
      model: The model under test.
      seed: Random seed of scenes, captions and noise.
      num_prompts: Number of prompts, at least 2. Some measures use a fixed number instead.
      progress: Called with the number of finished items and their total.
    """

    model: ModelUnderTest
    seed: int
    num_prompts: int
    progress: Callable[[int, int], None]
    _shared: dict[Callable[["Run"], Any], Any]

    def batches(self, items: Sequence[T]) -> Iterator[tuple[int, Sequence[T]]]:
        """Yields each batch of items with the index of its first item, and reports progress."""
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
    """Returns a JSON object whose only key is the measure's name."""
    return {name: result}


@dataclasses.dataclass(frozen=True)
class Measure:
    """A measure of a model.

    Attributes:
      name: Unique name within the suite.
      run: Computes the result.
      table: Formats the result as lines of a table.
      describe: Description of the measurement, a noun phrase.
      to_json: Returns the entries of the suite's JSON object for a name and a result. If several measures return the
        same key, their objects are merged.
      generates_images: Whether `run` calls `generate_images`. If so, the suite's image size is required.
    """

    name: str
    run: Callable[[Run], Result]
    table: Table
    describe: str
    to_json: Callable[[str, Result], Mapping[str, Any]] = under_own_name
    generates_images: bool = True


@dataclasses.dataclass(frozen=True)
class Suite:
    """Measures that are run and reported together.

    Attributes:
      name: Name of the suite.
      measures: The measures in execution order.
      image_size: Required height and width of generated images in pixels. If None, any size is allowed.

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
        """Returns the named measures in the order of the suite.

        Args:
          names: Names of measures.
          where: The setting that contains the names, for error messages. If None, they refer to the suite.

        Raises:
          ValueError: If a name is unknown or `names` is empty.
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
    """Runs measures and yields each one with its result as soon as it finishes.

    Args:
      measures: The measures, in execution order.
      model: The model under test.
      seed: Random seed of scenes, captions and noise.
      num_prompts: Number of prompts per measure, at least 2. Some measures use a fixed number instead.
      progress: Called with the measure's name, the number of finished items and their total.

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
