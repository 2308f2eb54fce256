"""The command `unclip evaluate`: measures a cascade with an evaluation suite and prints tables."""

import argparse
import contextlib
import datetime
import functools
import json
import sys
import textwrap
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from unclip_jax.commands import compilation_cache, terminal

if TYPE_CHECKING:
    from unclip_jax.cascades.cascade import Cascade
    from unclip_jax.evaluation.model_under_test import ModelUnderTest
    from unclip_jax.evaluation.suite import Measure, Suite
    from unclip_jax.evaluation.table import Result

EXAMPLE = """examples:
  unclip evaluate --cascade shapes --suite shapes --json shapes.json
  unclip evaluate --prompts 32 --rows one_object,diversity --seed 100
  unclip evaluate --list

All images are sampled with the default settings of the cascade, as in `unclip generate`.
The tables are Markdown and are printed row by row."""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Adds the parser of `unclip evaluate`."""
    parser = subparsers.add_parser(
        "evaluate",
        help="measure the quality of a cascade",
        description="Measures a cascade with an evaluation suite and prints the results as tables.",
        epilog=EXAMPLE,
    )
    parser.add_argument("--list", action="store_true", help="list the suites and their rows, then exit")
    parser.add_argument("--cascade", default="shapes", metavar="C", help="bundled name or folder (default: shapes)")
    parser.add_argument("--suite", default="shapes", metavar="NAME", help="evaluation suite (default: shapes)")
    parser.add_argument(
        "--seed", type=int, default=0, metavar="S", help="random seed for scenes, captions and noise (default: 0)"
    )
    parser.add_argument(
        "--prompts", type=int, default=200, metavar="N", help="number of prompts per row (default: 200)"
    )
    parser.add_argument("--rows", metavar="A,B,...", help="rows to measure (default: all rows of the suite)")
    parser.add_argument("--json", metavar="FILE", help="output file for the results as one JSON object")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Runs `unclip evaluate` and returns the exit code."""
    import unclip_jax
    from unclip_jax import files
    from unclip_jax.cascades.priors import stages_with_prior
    from unclip_jax.evaluation import report
    from unclip_jax.evaluation.suite import run_measures
    from unclip_jax.evaluation.suites import SUITES

    if args.list:
        print("\n\n".join(suite_lines(suite) for _, suite in SUITES.items()))
        print("".join(f"{failure}.\n" for failure in SUITES.failures()), end="", file=sys.stderr)
        return 0
    # Check all arguments first, because an evaluation can take an hour.
    suite = SUITES.choose(args.suite, "--suite")
    if not 0 <= args.seed < 2**32:
        raise ValueError(f"--seed must be from 0 to {2**32 - 1}, got {args.seed}.")
    if args.prompts < 2:
        raise ValueError(f"--prompts must be at least 2, got {args.prompts}.")
    measures = suite.measures
    if args.rows is not None:
        measures = suite.select([name.strip() for name in args.rows.split(",") if name.strip()], where="--rows")
    if args.json is not None:
        check_writable(args.json)

    compilation_cache.enable()
    cascade = unclip_jax.load_cascade(args.cascade, stages=stages_with_prior)
    check_image_size(cascade, suite, measures)
    settings = describe(args, cascade)
    print("\n".join(settings_lines(settings)), flush=True)
    results: list[tuple[Measure, Result]] = []
    with terminal.one_line_warnings("evaluate"), contextlib.closing(RowProgress()) as progress:
        model = cascade_functions(cascade)
        for measure, result in run_measures(
            measures, model, seed=args.seed, num_prompts=args.prompts, progress=progress
        ):
            progress.close()
            previous = results[-1][0] if results else None
            print("\n".join(report.table_lines(measure, result, previous)), flush=True)
            results.append((measure, result))
            # After every row, so that a result that JSON cannot hold is reported at once.
            content = json_text(report.as_json(results, {**settings, "seconds": round(progress.seconds(), 1)}))
    print(f"\n{progress.seconds():.0f} s", flush=True)
    if args.json is not None:
        files.atomic_write(args.json, content)
    return 0


def suite_lines(suite: "Suite") -> str:
    """Returns the name of a suite, followed by the names and descriptions of its rows, as text."""
    width = max(len(measure.name) for measure in suite.measures)
    size = "" if suite.image_size is None else f", for images of {suite.image_size} px"
    rows = (
        textwrap.fill(
            measure.describe,
            width=100,
            initial_indent=f"  {measure.name:{width}}  ",
            subsequent_indent=" " * (width + 4),
        )
        for measure in suite.measures
    )
    return "\n".join([f"rows of suite {suite.name}{size}:", *rows])


def check_image_size(cascade: "Cascade", suite: "Suite", measures: "Sequence[Measure]") -> None:
    """Checks that the cascade generates images of the size that the suite requires.

    Args:
      cascade: The cascade. If it has no image stages, it is not checked.
      suite: The suite. If its `image_size` is None, any size is allowed.
      measures: Measures to run. If none of them generates images, any size is allowed.

    Raises:
      ValueError: If the images of the cascade have another size.
    """
    from unclip_jax.images import height_width

    image_stages = cascade.stages_producing("image")
    if suite.image_size is None or not image_stages or not any(measure.generates_images for measure in measures):
        return
    last = image_stages[-1]
    size = height_width(last.module.image_size)
    if size != height_width(suite.image_size):
        raise ValueError(
            f"--cascade must generate images of {suite.image_size} px for suite {suite.name!r}, but the last stage of "
            f"{cascade.path!r}, {last.name!r}, generates {' x '.join(map(str, sorted(set(size))))} px."
        )


def cascade_functions(cascade: "Cascade") -> "ModelUnderTest":
    """Returns the functions of a cascade, with its default sampling settings.

    Each function looks up its stages when it is called. Measures of CLIP therefore do not require other stages.
    """
    from unclip_jax.cascades import embedding, text_to_image
    from unclip_jax.evaluation.model_under_test import ModelUnderTest

    return ModelUnderTest(
        generate_images=functools.partial(text_to_image.text_to_image, cascade),
        encode_image=lambda images: embedding.encode_image(cascade.stage_producing("features"), images),
        encode_text=lambda prompts: embedding.encode_text(cascade.stage_producing("features"), prompts),
        sample_prior=functools.partial(text_to_image.sample_prior, cascade),
        upsample=functools.partial(text_to_image.upsample, cascade),
    )


def describe(args: argparse.Namespace, cascade: "Cascade") -> dict[str, Any]:
    """Returns the settings of an evaluation: arguments, date, versions, devices and sampling settings."""
    import jax

    from unclip_jax import __version__
    from unclip_jax.kinds import kind_of

    return {
        "suite": args.suite,
        "cascade": args.cascade,
        "seed": args.seed,
        "prompts": args.prompts,
        "date": datetime.date.today().isoformat(),
        "unclip_jax": __version__,
        "jax": jax.__version__,
        "devices": f"{len(cascade.devices)} x {cascade.devices[0].device_kind}",
        "sampling": {
            stage.name: stage.spec.sampling.chosen() for stage in cascade.stages.values() if kind_of(stage).is_sampled
        },
    }


def settings_lines(settings: Mapping[str, Any]) -> list[str]:
    """Returns the settings as a Markdown list: one line for the arguments, then one line per stage."""
    call = {name: value for name, value in settings.items() if name != "sampling"}
    return [f"- {name}: {_pairs(value)}" for name, value in {"run": call, **settings["sampling"]}.items()]


def _pairs(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items())


class RowProgress:
    """Progress bar of the current row, shown only if stderr is a terminal."""

    def __init__(self):
        self._bar = None
        self._started = time.perf_counter()

    def __call__(self, row: str, done: int, total: int) -> None:
        """Updates the bar, or starts a new one if `done` is 0."""
        from tqdm import tqdm

        if done == 0:
            self.close()
            self._bar = tqdm(total=total, desc=row, unit=" images", leave=False, disable=None)
        self._bar.update(done - self._bar.n)

    def close(self) -> None:
        """Closes the bar."""
        if self._bar is not None:
            self._bar.close()

    def seconds(self) -> float:
        """Returns the time in seconds since this object was created."""
        return time.perf_counter() - self._started


def check_writable(path: str) -> None:
    """Checks that a file can be written to `path`, without changing it.

    Raises:
      ValueError: If `path` is a folder or cannot be written.
    """
    from etils import epath

    from unclip_jax import files

    target = epath.Path(path)
    if target.is_dir():
        example = str(target / "results.json")
        raise ValueError(f"--json must be a file, got the folder {path!r}. Use a name such as {example!r}.")
    try:
        files.check_writable(target)
    except OSError as error:
        raise ValueError(
            f"--json must be a file in an existing, writable folder, got {path!r} ({error.strerror})."
        ) from error


def json_text(content: Mapping[str, Any]) -> str:
    """Returns an object as JSON, or raises ValueError or TypeError if JSON cannot represent a value."""
    return json.dumps(content, indent=2, allow_nan=False) + "\n"
