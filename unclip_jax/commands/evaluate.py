"""`unclip evaluate`: measures how good a cascade is, and prints a table."""

import argparse
import contextlib
import datetime
import functools
import json
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from unclip_jax.commands import compilation_cache, terminal

if TYPE_CHECKING:
    from unclip_jax.cascades.cascade import Cascade
    from unclip_jax.evaluation.subject import Subject

EXAMPLE = """example:
  unclip evaluate --cascade shapes --suite shapes --json shapes.json
  unclip evaluate --cascade shapes --suite shapes --prompts 32 --rows one_object,diversity --seed 100

The shapes suite's rows: one_object, two_objects, compositional, embedding_only, true_embedding, from_16px, from_64px,
reader, free_wording, shuffled, diversity, flatness, unnamed, upsampler_16_to_64, upsampler_64_to_256, clip_retrieval,
clip_attributes, prior_cosine. Everything is sampled with the cascade's defaults, those of `unclip generate`. The tables
are Markdown, printed row by row."""
SUITE_SIZE = 256  # px of the pictures that the shapes suite reads


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser(
        "evaluate",
        help="measure how good a cascade is",
        description="Measures a cascade with a suite and prints the result as tables.",
        epilog=EXAMPLE,
    )
    parser.add_argument("--cascade", default="shapes", metavar="C", help="a bundled name or a folder (default: shapes)")
    parser.add_argument("--suite", default="shapes", metavar="NAME", help="which measures: shapes (default: shapes)")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="draws scenes, words and noise (default: 0)")
    parser.add_argument("--prompts", type=int, default=200, metavar="N", help="pictures of a row (default: 200)")
    parser.add_argument("--rows", metavar="A,B,...", help="only these rows (default: all)")
    parser.add_argument("--json", metavar="FILE", help="write the results here too, as one object")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    import unclip_jax
    from unclip_jax.cascades.priors import stages_with_prior
    from unclip_jax.evaluation import report, suites

    # Every argument is checked before anything is made: on a slow machine the result is an hour away.
    if args.suite not in suites.SUITES:
        raise ValueError(f"--suite {args.suite!r} is unknown; known: {', '.join(suites.SUITES)}")
    if not 0 <= args.seed < 2**32:
        raise ValueError(f"--seed {args.seed} is no seed; a whole number from 0 to {2**32 - 1} is wanted")
    if args.prompts < 2:
        raise ValueError(f"--prompts {args.prompts} is too few; a row needs at least 2")
    rows = suites.SHAPES_ROWS if args.rows is None else [row.strip() for row in args.rows.split(",")]
    suites.check_rows(rows)
    if args.json is not None:
        check_writable(args.json)

    compilation_cache.enable()
    cascade = unclip_jax.load_cascade(args.cascade, stages=stages_with_prior)
    settings = describe(args, cascade)
    print("\n".join(settings_lines(settings)), flush=True)
    done: dict[str, Any] = {}
    with terminal.one_line_warnings("evaluate"), contextlib.closing(RowProgress()) as progress:
        subject = cascade_subject(cascade)
        for row, result in suites.shapes(subject, seed=args.seed, prompts=args.prompts, rows=rows, progress=progress):
            progress.close()
            print("\n".join(report.table_lines(row, result, list(done))), flush=True)
            done[row] = result
    print(f"\n{progress.seconds():.0f} s", flush=True)
    if args.json is not None:
        write_json(args.json, report.as_json(done, {**settings, "seconds": round(progress.seconds(), 1)}))
    return 0


def cascade_subject(cascade: "Cascade") -> "Subject":
    """An opened cascade as the functions that a suite calls, at the cascade's own settings.

    A stage is asked for only when it is used, so the rows of CLIP alone need no other.
    """
    from unclip_jax.cascades import embedding, text_to_image
    from unclip_jax.evaluation.subject import Subject

    def make_pictures(prompts, **settings):
        makers = cascade.stages_producing("image")
        if makers and makers[-1].module.image_size != SUITE_SIZE:
            raise ValueError(
                f"--cascade {cascade.path!r} makes pictures of {makers[-1].module.image_size} px with its last stage, "
                f"{makers[-1].name}; the shapes suite reads {SUITE_SIZE} px"
            )
        return text_to_image.text_to_image(cascade, prompts, **settings)

    return Subject(
        make_pictures=make_pictures,
        encode_image=lambda pictures: embedding.encode_image(cascade.stage_producing("features"), pictures),
        encode_text=lambda prompts: embedding.encode_text(cascade.stage_producing("features"), prompts),
        sample_prior=functools.partial(text_to_image.sample_prior, cascade),
        upsample=functools.partial(text_to_image.upsample, cascade),
    )


def describe(args: argparse.Namespace, cascade: "Cascade") -> dict[str, Any]:
    """What the numbers hang on: the call, the day, the versions, the machine, and how each stage is sampled."""
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
            stage.name: stage.spec.sampling.chosen()
            for stage in cascade.stages.values()
            if kind_of(stage).is_sampled
        },
    }


def settings_lines(settings: Mapping[str, Any]) -> list[str]:
    """The settings as a list in Markdown: the call on one line, each stage on one."""
    call = {name: value for name, value in settings.items() if name != "sampling"}
    return [f"- {name}: {_pairs(value)}" for name, value in {"run": call, **settings["sampling"]}.items()]


def _pairs(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items())


class RowProgress:
    """A bar on a terminal for the row that is being made; elsewhere nothing."""

    def __init__(self):
        self._bar = None
        self._started = time.perf_counter()

    def __call__(self, row: str, done: int, total: int) -> None:
        from tqdm import tqdm

        if done == 0:
            self.close()
            self._bar = tqdm(total=total, desc=row, unit=" pictures", leave=False, disable=None)
        self._bar.update(done - self._bar.n)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()

    def seconds(self) -> float:
        return time.perf_counter() - self._started


def check_writable(path: str) -> None:
    """Raises ValueError unless a file can be written under `path`, which is left as it is."""
    from etils import epath

    from unclip_jax import files

    target = epath.Path(path)
    if target.is_dir():
        raise ValueError(
            f"--json {path!r} is a folder; a file's name is wanted, such as {str(target / 'shapes.json')!r}"
        )
    try:
        files.check_writable(target)
    except OSError as error:
        raise ValueError(
            f"--json {path!r} cannot be written ({error.strerror}); it wants an existing folder that can be written to"
        ) from error


def write_json(path: str, results: Mapping[str, Any]) -> None:
    """Writes one object, whole or not at all."""
    from unclip_jax import files

    files.atomic_write(path, json.dumps(results, indent=2, allow_nan=False) + "\n")
