"""The pmapped sampler: any stage, any number of pictures, one compiled program.

A stage is sampled by two programs: `begin` draws x_T, `segment` takes SEGMENT steps of the path. What is static is the
network, the kinds of sampler and variance, whether there is guidance, rescaling and dynamic thresholding, and the
padded number of rows; the schedule, all numbers, seed, path and conditions are arguments, so another of these compiles
nothing. Progress, and Ctrl-C, happen between segments.

Each row has a key of its own, made inside the programs. Rows are spread over the devices and padded to a power of two
on each, so a picture does not depend, but for rounding, on how many are made with it or on how many devices.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NoReturn

import jax
import numpy as np
from flax import linen as nn

from unclip_jax import rng
from unclip_jax.arrays import Float, Int, PyTree
from unclip_jax.cascades.cascade import Stage, replicated, row_sharded
from unclip_jax.cascades.embedding import padded_size
from unclip_jax.diffusion import schedule as schedules
from unclip_jax.diffusion.denoiser import Denoiser, Network, denoiser_from_network
from unclip_jax.diffusion.guidance import ALWAYS, classifier_free
from unclip_jax.diffusion.samplers.ddim import DDIM
from unclip_jax.diffusion.samplers.ddpm import Ancestral
from unclip_jax.diffusion.samplers.dpm_solver import DPMSolver
from unclip_jax.diffusion.samplers.sampler import Sampler, initial, row_noise, sample
from unclip_jax.diffusion.thresholding import clipped, dynamically_thresholded
from unclip_jax.diffusion.timesteps import named_path, segments
from unclip_jax.diffusion.variance import VARIANCES

SEGMENT = 8  # steps of one call
SAMPLERS = ("ddpm", "ddim", "dpm")

# (stage, steps done, steps in all) -> None
Progress = Callable[[str, int, int], None]
# (module, params, conditions, shared, guided) -> the network as a function of (x, t). Guided: of twice the rows, the
# conditional half first. What it makes of the conditions beforehand is made once a segment and not once a step.
Bind = Callable[[nn.Module, PyTree, PyTree, PyTree, bool], Network]


@dataclasses.dataclass(frozen=True)
class Settings:
    """How a stage is sampled.

    Args:
      sampler: "ddpm" (ancestral), "ddim", or "dpm" (DPM-Solver++(2M)).
      steps: how many, 1 to the steps of the schedule, or a path's name (see `timesteps.named_path`).
      scale: of classifier-free guidance; 1 is unguided, and then no unconditional half is computed.
      guidance_interval: first and last step of the schedule with guidance; None: all have it.
      guidance_rescale: in [0, 1], how far x0 is brought back to its unguided deviation; 0 is not at all.
      eta: of DDIM, in [0, 1].
      variance: of ancestral sampling, one of `variance.VARIANCES`; None: the one that the stage was trained with.
      threshold: percentile of dynamic thresholding, in (0, 100]; None: x0 is clipped as the stage says.
      threshold_cap: of dynamic thresholding, at least 1.
      temperature: deviation of the noise that sampling begins with; GLIDE's upsampler has 0.997.
      candidates: how many embeddings the prior draws for each that is wanted, or how many pictures the decoder draws
        for each, every one from an embedding of its own where the prior makes them; CLIP takes the best.
    """

    sampler: str
    steps: int | str
    scale: float = 1.0
    guidance_interval: tuple[int, int] | None = None
    guidance_rescale: float = 0.0
    eta: float = 0.0
    variance: str | None = None
    threshold: float | None = None
    threshold_cap: float = 1e6
    temperature: float = 1.0
    candidates: int = 1

    def chosen(self) -> dict[str, Any]:
        """The fields that say something: sampler and steps, and the others where they are not at their default."""
        fields = {field.name: field.default for field in dataclasses.fields(self)}
        values = {name: getattr(self, name) for name in fields}
        return {name: value for name, value in values.items() if value != fields[name]}

    def check(self, stage: str, most: int) -> "Settings":
        """Raises ValueError, with the stage's name, for a setting that cannot be. `most`: steps of the schedule."""

        def refuse(name: str, wanted: str) -> NoReturn:
            raise ValueError(f"{name} of {stage} is {getattr(self, name)!r}; {wanted}")

        numbers = ("scale", "guidance_rescale", "eta", "threshold_cap", "temperature", "candidates")
        for name in (*numbers, *(("threshold",) if self.threshold is not None else ())):
            wanted = int if name == "candidates" else int | float
            if isinstance(getattr(self, name), bool) or not isinstance(getattr(self, name), wanted):
                refuse(name, "it must be a whole number" if wanted is int else "it must be a number")
        if self.sampler not in SAMPLERS:
            refuse("sampler", f"known: {', '.join(SAMPLERS)}")
        if isinstance(self.steps, int) and not 1 <= self.steps <= most:
            refuse("steps", f"it must be from 1 to {most}, the schedule's")
        try:
            named_path(self.steps, most)
        except ValueError as error:
            raise ValueError(f"steps of {stage}: {error}") from error
        if not np.isfinite(self.scale):
            refuse("scale", "it must be a finite number")
        if self.guidance_interval is not None and not _is_interval(self.guidance_interval, most):
            refuse("guidance_interval", f"it must be two steps, the smaller first, from 0 to {most - 1}")
        for name in ("eta", "guidance_rescale"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                refuse(name, "it must be from 0 to 1")
        if self.variance not in (None, *VARIANCES):
            refuse("variance", f"known: {', '.join(VARIANCES)}")
        if self.threshold is not None and not 0.0 < self.threshold <= 100.0:
            refuse("threshold", "it must be a percentile above 0 and up to 100")
        if not 1.0 <= self.threshold_cap < np.inf:
            refuse("threshold_cap", "it must be a number from 1 upwards")
        if not 0.0 < self.temperature < np.inf:
            refuse("temperature", "it must be a number above 0")
        if self.candidates < 1:
            refuse("candidates", "it must be 1 or more")
        return self


def _is_interval(value: Any, most: int) -> bool:
    return (
        isinstance(value, tuple | list)
        and len(value) == 2
        and all(isinstance(step, int) for step in value)
        and 0 <= value[0] <= value[1] < most
    )


@dataclasses.dataclass(frozen=True)
class _Program:
    """All that is static in a stage's compiled programs."""

    module: nn.Module
    bind: Bind
    sampler: str
    variance: str
    predicts: str
    limit: float | None
    thresholded: bool
    guided: bool
    rescaled: bool
    shape: tuple[int, ...]
    devices: tuple[jax.Device, ...]


def run_stage(
    stage: Stage,
    bind: Bind,
    *,
    settings: Settings,
    seed: int,
    numbers: Int["N"],
    candidates: Int["N"],
    conditions: PyTree,
    shared: PyTree,
    shape: tuple[int, ...],
    devices: tuple[jax.Device, ...],
    rows: int,
    progress: Progress | None = None,
) -> Float["N ..."]:
    """Samples one stage for N rows, and returns a host array.

    Args:
      seed, numbers, candidates: all noise of a row comes from the seed, the stage's name, the number of its picture
        and, where a picture has several rows, of its candidate.
      conditions: host arrays whose first axis is N.
      shared: arrays that all rows share, such as the features of the empty caption.
      shape: of one row of x.
      rows: at most so many on a device at a time; more are done one lot after another.
    """
    program = _program(stage, bind, settings, shape, devices)
    begin, segment = _compiled(program)
    schedule = schedules.by_name(stage.config["diffusion"]["schedule"], stage.config["diffusion"]["steps"])
    stage_key = jax.random.key_data(rng.named(jax.random.key(seed), stage.name))
    total, count = len(numbers), len(devices)
    each = padded_size(-(-total // count), rows)
    whole_path = named_path(settings.steps, schedule.num_steps)
    pieces = _pieces(stage, whole_path)
    # Everything is put on its devices here, once: what is not is copied anew for every segment.
    on_all, by_row = replicated(devices), row_sharded(devices)
    common = (stage_key, schedule, shared, _numbers(settings))
    stage_key, schedule, shared, numbers_of = jax.device_put(common, on_all)
    pieces = [(params, jax.device_put(piece, on_all), int(np.sum(piece[:-1] != piece[1:]))) for params, piece in pieces]
    steps_done, steps_all = 0, (len(whole_path) - 1) * -(-total // (each * count))
    made = []
    for start in range(0, total, each * count):
        size = min(each * count, total - start)
        names, lot = jax.tree.map(
            lambda x: _spread(x, start, size, each, count),
            ((np.asarray(numbers, np.int32), np.asarray(candidates, np.int32)), conditions),
        )
        names, lot = jax.device_put((names, lot), by_row)
        state = begin(schedule, stage_key, names, pieces[0][1], numbers_of)
        for params, piece, steps in pieces:
            state = segment(params, state, piece, schedule, stage_key, names, lot, shared, numbers_of)
            steps_done += steps
            if progress:
                jax.block_until_ready(state.x)
                progress(stage.name, steps_done, steps_all)
        made.append(jax.device_get(state.x).reshape(each * count, *shape)[:size])
    return np.concatenate(made)


def _pieces(stage: Stage, path: np.ndarray) -> list[tuple[PyTree, np.ndarray]]:
    """The path in pieces of SEGMENT steps, each with the parameters that serve it."""
    parts = [(stage.params, path)]
    if stage.last_params is not None:
        parts = [(stage.params, path[:-1]), (stage.last_params, path[-2:])]
    return [(params, piece) for params, part in parts if len(part) > 1 for piece in segments(part, SEGMENT)]


def _program(stage: Stage, bind: Bind, settings: Settings, shape, devices) -> _Program:
    diffusion = stage.config["diffusion"]
    return _Program(
        module=stage.module,
        bind=bind,
        sampler=settings.sampler,
        variance=settings.variance or diffusion["variance"],
        predicts=diffusion["predicts"],
        limit=diffusion["clip_x0"],
        thresholded=settings.threshold is not None,
        guided=settings.scale != 1.0,
        rescaled=settings.guidance_rescale != 0.0,
        shape=shape,
        devices=devices,
    )


@functools.lru_cache(maxsize=64)
def _compiled(program: _Program) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """The two pmapped programs; jax compiles each once for every padded number of rows."""

    def noise(stage_key, names):
        keys = jax.vmap(jax.random.fold_in)(rng.rows(jax.random.wrap_key_data(stage_key), names[0]), names[1])
        return row_noise(keys, program.shape)

    def begin(schedule, stage_key, names, path, numbers):
        def tempered(draw, t, t_next):
            return numbers["temperature"] * noise(stage_key, names)(draw, t, t_next)

        return initial(_sampler(program, schedule, 0.0), tempered, path[0])

    def segment(params, state, path, schedule, stage_key, names, conditions, shared, numbers):
        network = program.bind(program.module, params, conditions, shared, program.guided)
        denoiser = _denoiser(program, network, schedule, numbers)
        return sample(_sampler(program, schedule, numbers["eta"]), denoiser, state, path, noise(stage_key, names))

    devices = list(program.devices)
    return (
        jax.pmap(begin, in_axes=(None, None, 0, None, None), devices=devices),
        jax.pmap(segment, in_axes=(None, 0, None, None, None, 0, 0, None, None), devices=devices),
    )


def _numbers(settings: Settings) -> dict[str, np.ndarray]:
    """What of the settings a program takes as arguments."""
    return {
        "scale": np.float32(settings.scale),
        "interval": np.asarray(settings.guidance_interval or ALWAYS, np.int32),
        "rescale": np.float32(settings.guidance_rescale),
        "eta": np.float32(settings.eta),
        "percentile": np.float32(settings.threshold or 100.0),
        "cap": np.float32(settings.threshold_cap),
        "temperature": np.float32(settings.temperature),
    }


def _denoiser(program: _Program, network: Network, schedule: schedules.Schedule, numbers: PyTree) -> Denoiser:
    denoiser = denoiser_from_network(network, schedule=schedule, predicts=program.predicts)
    if program.guided:
        denoiser = classifier_free(
            denoiser,
            scale=numbers["scale"],
            interval=numbers["interval"],
            rescale=numbers["rescale"] if program.rescaled else None,
            schedule=schedule,
        )
    if program.thresholded:
        return dynamically_thresholded(
            denoiser, schedule=schedule, percentile=numbers["percentile"], cap=numbers["cap"]
        )
    return clipped(denoiser, schedule=schedule, limit=program.limit)


def _sampler(program: _Program, schedule: schedules.Schedule, eta: Float[""] | float) -> Sampler:
    if program.sampler == "ddim":
        return DDIM(schedule, eta)
    if program.sampler == "dpm":
        return DPMSolver(schedule)
    return Ancestral(schedule, program.variance)


def _spread(rows: np.ndarray, start: int, size: int, each: int, count: int) -> np.ndarray:
    """Rows start..start+size as [devices, each, ...], padded with the last."""
    picked = np.asarray(rows)[np.minimum(np.arange(start, start + each * count), start + size - 1)]
    return picked.reshape(count, each, *picked.shape[1:])
