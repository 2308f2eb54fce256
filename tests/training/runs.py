"""Runs of the tiny task."""

import pathlib

from unclip_jax.training import loop
from unclip_jax.training.checkpoint_record import read_record, steps_saved


def train(tiny: dict, workdir: pathlib.Path, **changes) -> int:
    """Trains with some arguments of `loop.train` changed."""
    return loop.train(**{**tiny, **changes}, workdir=workdir)


def final(workdir: pathlib.Path) -> tuple[int, dict]:
    """Returns the step of the latest checkpoint, and the type, shape and checksum of every array."""
    step = steps_saved(workdir)[-1]
    return step, read_record(workdir, step).arrays
