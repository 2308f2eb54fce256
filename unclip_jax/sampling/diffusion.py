"""Diffusion sampling of a single stage, shared by all kinds.

Two compiled functions sample a stage: `begin` returns the state at x_T, and `segment` runs a fixed number of steps.
They are compiled for the network and its parameterization, `clip_x0`, the sampler, the variance, the functions of
transforms, the devices, the padded number of rows, and whether guidance, guidance rescaling and dynamic thresholding
are used. The noise schedule, the other numbers in the settings, seeds, timesteps and conditions are traced arguments,
so changing them does not recompile. Progress and Ctrl-C are handled between segments.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from unclip_jax.arrays import Float, PyTree
from unclip_jax.diffusion.denoiser import Denoiser, denoiser_from_network
from unclip_jax.diffusion.guidance import classifier_free
from unclip_jax.diffusion.samplers import SAMPLERS, SamplerOptions
from unclip_jax.diffusion.samplers.sampler import Sampler, initial, row_noise, sample
from unclip_jax.diffusion.settings import SamplingSettings
from unclip_jax.diffusion.thresholding import clipped, dynamically_thresholded
from unclip_jax.diffusion.timesteps import ascending, named_path
from unclip_jax.sampling.denoising import Denoising, NetworkCall
from unclip_jax.sampling.pieces import Piece, cut
from unclip_jax.sampling.rows import Chunks, SampleRequest, place_shared, row_keys, rows_per_device
from unclip_jax.sampling.transforms import DenoiserTransform, SamplerTransform, apply
from unclip_jax.stages.stage import Stage


def sample_diffusion(
    stage: Stage,
    network: NetworkCall,
    *,
    settings: SamplingSettings,
    request: SampleRequest,
    guidance_scale: Float["N"] | None = None,
    denoiser_transforms: Sequence[DenoiserTransform] = (),
    sampler_transforms: Sequence[SamplerTransform] = (),
    start: Float["N ..."] | None = None,
    invert: bool = False,
) -> Float["N ..."]:
    """Samples one stage.

    Args:
      stage: The stage, with parameters on the devices of `request`.
      network: Network inputs with N rows.
      settings: Sampling settings.
      request: Seeds and indices of the N rows, devices and progress callback.
      guidance_scale: One guidance scale per row. If None, `settings.guidance_scale` is used for all rows.
      denoiser_transforms: Transforms of the denoiser, applied in order after classifier-free guidance and before
        clipping.
      sampler_transforms: Transforms of the sampler, applied in order.
      start: Initial state: an inverted latent or a noisy image, or a clean sample if `invert` is True. If None,
        sampling starts from noise.
      invert: Whether to run the timesteps in reverse, from the clean sample `start` to its x_T (DDIM inversion).

    Returns:
      The samples as a host array, or their x_T if `invert` is True. Samples of images are in [-1, 1] unless `clip_x0`
      of the stage is None.

    Raises:
      ValueError: If the settings or guidance scales are invalid, if a guidance scale is not 1 but the stage does not
        support guidance, or if `invert` is True without `start` or with a single step.
    """
    diffusion, denoising = stage.spec.diffusion, network.denoising
    settings = settings.resolved(diffusion.steps)
    settings.check(stage.name, diffusion.steps)
    scales = _scales(stage, denoising, settings, guidance_scale, len(request.image_ids))
    if invert and start is None:
        raise ValueError(f"start of {stage.name} must be the clean samples if invert=True, got None.")
    guided, devices = bool(np.any(scales != 1.0)), request.all_devices()
    transforms = (tuple(denoiser_transforms), tuple(sampler_transforms))
    path = named_path(settings.steps, diffusion.steps)
    path = ascending(path) if invert else path
    if len(path) < 2:
        raise ValueError(f"steps of {stage.name} must be at least 2 if invert=True, got {settings.steps}.")
    pieces = cut(stage, path, settings.guidance_interval, guided=guided, inverted=invert)
    shared = {
        "schedule": diffusion.noise_schedule(),
        "scalars": _scalars(settings),
        "empty": network.empty if guided else {},
        "transforms": _each(transforms, "shared"),
    }
    rows = {
        "ids": request.row_ids(stage.name),
        "scale": scales,
        "inputs": network.inputs,
        "transforms": _each(transforms, "rows"),
        "start": start,
    }
    programs = {
        piece.guided: _compiled(_program(stage, denoising, settings, transforms, devices, piece.guided))
        for piece in pieces
    }
    chunks = Chunks.of(len(scales), rows_per_device(denoising.shape(stage.module)), devices)
    return _run(stage.name, programs, pieces, chunks, rows, place_shared(shared, devices), request.progress)


def _run(name, programs, pieces: Sequence[Piece], chunks: Chunks, rows, shared, progress) -> Float["N ..."]:
    """Runs every chunk of rows through all pieces of the path."""
    paths = [place_shared(piece.path, chunks.devices) for piece in pieces]
    done, total, samples = 0, len(chunks) * sum(piece.num_steps for piece in pieces), []
    for chunk in chunks.spread(rows):
        begin, _ = programs[pieces[0].guided]
        state = begin(chunk, paths[0], shared)
        for piece, path in zip(pieces, paths, strict=True):
            _, segment = programs[piece.guided]
            state = segment(piece.params, state, path, chunk, shared)
            done += piece.num_steps
            if progress:
                jax.block_until_ready(state.x)
                progress(name, done, total)
        samples.append(jax.device_get(state.x))
    return chunks.join(samples)


def _scales(
    stage: Stage, denoising: Denoising, settings: SamplingSettings, per_row: Float["N"] | None, rows: int
) -> np.ndarray:
    scales = np.full(rows, settings.guidance_scale) if per_row is None else np.asarray(per_row, np.float64)
    if scales.shape != (rows,) or not np.all(np.isfinite(scales)):
        raise ValueError(f"guidance_scale of {stage.name} must be {rows} finite numbers, got {per_row!r}.")
    for scale in scales:
        denoising.check_scale(stage.name, scale)
    return scales.astype(np.float32)


@dataclasses.dataclass(frozen=True)
class _Program:
    """Static arguments of the compiled functions of a stage."""

    module: nn.Module
    denoising: Denoising
    sampler: str
    variance: str
    predicts: str
    limit: float | None
    thresholded: bool
    guided: bool
    rescaled: bool
    transforms: tuple[tuple[Callable, ...], tuple[Callable, ...]]
    devices: tuple[jax.Device, ...]


def _program(stage, denoising, settings, transforms, devices, guided) -> _Program:
    diffusion = stage.spec.diffusion
    return _Program(
        module=stage.module,
        denoising=denoising,
        sampler=settings.sampler,
        variance=settings.variance or diffusion.variance,
        predicts=diffusion.predicts,
        limit=diffusion.clip_x0,
        thresholded=settings.threshold is not None,
        guided=guided,
        rescaled=guided and settings.guidance_rescale != 0.0,
        transforms=_each(transforms, "function"),
        devices=devices,
    )


@functools.lru_cache(maxsize=64)
def _compiled(program: _Program) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Returns the two pmapped functions, each of which JAX compiles once per padded number of rows."""
    shape = program.denoising.shape(program.module)

    def begin(rows, path, shared):
        sampler = _sampler(program, rows, shared)
        if rows["start"] is not None:
            return sampler.init(rows["start"])
        noise = row_noise(row_keys(rows["ids"]), shape)
        return initial(sampler, lambda *step: shared["scalars"]["temperature"] * noise(*step), path[0])

    def segment(params, state, path, rows, shared):
        noise = row_noise(row_keys(rows["ids"]), shape)
        return sample(_sampler(program, rows, shared), _denoiser(program, params, rows, shared), state, path, noise)

    devices = list(program.devices)
    return (
        jax.pmap(begin, in_axes=(0, None, None), devices=devices),
        jax.pmap(segment, in_axes=(None, 0, None, 0, None), devices=devices),
    )


def _denoiser(program: _Program, params: PyTree, rows: PyTree, shared: PyTree) -> Denoiser:
    module, denoising, schedule, scalars = program.module, program.denoising, shared["schedule"], shared["scalars"]
    inputs = denoising.prepare(module, rows["inputs"])
    if program.guided:
        without = denoising.unconditional(module, inputs, shared["empty"])
        inputs = jax.tree.map(lambda c, u: jnp.concatenate([c, jnp.broadcast_to(u, c.shape)]), inputs, without)

    def network(x_t, t):
        return module.apply({"params": params}, x_t, t, **inputs)

    denoiser = denoiser_from_network(network, schedule=schedule, predicts=program.predicts)
    if program.guided:
        rescale = scalars["rescale"] if program.rescaled else None
        denoiser = classifier_free(denoiser, scale=rows["scale"], rescale=rescale, schedule=schedule)
    denoiser = apply(_transforms(program, rows, shared, 0), denoiser, schedule)
    if program.thresholded:
        percentile, cap = scalars["percentile"], scalars["cap"]
        return dynamically_thresholded(denoiser, schedule=schedule, percentile=percentile, cap=cap)
    return clipped(denoiser, schedule=schedule, limit=program.limit)


def _sampler(program: _Program, rows: PyTree, shared: PyTree) -> Sampler:
    schedule = shared["schedule"]
    options = SamplerOptions(eta=shared["scalars"]["eta"], variance=program.variance)
    sampler = SAMPLERS.choose(program.sampler)(schedule, options)
    return apply(_transforms(program, rows, shared, 1), sampler, schedule)


def _each(transforms: tuple[Sequence[Any], ...], field: str) -> tuple[tuple[Any, ...], ...]:
    """Returns one field of all denoiser transforms and of all sampler transforms."""
    return tuple(tuple(getattr(one, field) for one in group) for group in transforms)


def _transforms(program: _Program, rows, shared, group: int) -> list[tuple[Callable, PyTree, PyTree]]:
    """Returns the transforms of the denoiser (group 0) or of the sampler (group 1), with traced arrays."""
    parts = program.transforms, rows["transforms"], shared["transforms"]
    return list(zip(*(part[group] for part in parts), strict=True))


def _scalars(settings: SamplingSettings) -> dict[str, np.ndarray]:
    """Returns the settings that are traced arguments of the compiled functions."""
    return {
        "rescale": np.float32(settings.guidance_rescale),
        "eta": np.float32(settings.eta),
        "percentile": np.float32(settings.threshold or 100.0),
        "cap": np.float32(settings.threshold_cap),
        "temperature": np.float32(settings.temperature),
    }
