"""Writes scheduler-steps.npz: single steps of diffusers' UnCLIPScheduler and guided-diffusion's SpacedDiffusion.

    PYTHONPATH=<clone of openai/guided-diffusion> python -m tests.golden.make_scheduler_steps

Needs the extra `parity`. x_t, the output of the network and the noise come from `drawn.noise`. UnCLIPScheduler's tables
are recomputed in float64 from its float32 betas, because 1 - alpha_bar_0 loses three digits in float32.
"""

import json

import diffusers
import guided_diffusion
import numpy as np
import torch
from diffusers.schedulers import scheduling_unclip
from guided_diffusion import gaussian_diffusion, respace

from tests.golden.drawn import noise
from tests.golden.recording import HERE, commit

SHAPE = (2, 4, 4, 3)
TRAINING_STEPS = 1000


def inputs(step: int, channels: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Returns x_t, the output of the network and the noise of a step, with channels in the second axis."""
    arrays = noise("x", step, SHAPE), noise("answer", step, (*SHAPE[:-1], channels)), noise("noise", step, SHAPE)
    return tuple(torch.from_numpy(array.transpose(0, 3, 1, 2).copy()) for array in arrays)


def unclip(steps: int, **settings) -> tuple[dict, np.ndarray]:
    """Returns the settings, and the result of one step of UnCLIPScheduler from every t of the respaced schedule."""
    scheduler = diffusers.UnCLIPScheduler(**settings)
    scheduler.betas = scheduler.betas.double()
    scheduler.alphas = 1.0 - scheduler.betas
    scheduler.alphas_cumprod = scheduler.alphas.cumprod(0)
    scheduler.set_timesteps(steps)
    path = [int(t) for t in scheduler.timesteps]
    channels, results = 6 if settings["variance_type"] == "learned_range" else 3, []
    for number, t in enumerate(path):
        x, output, drawn = inputs(number, channels)
        scheduling_unclip.randn_tensor = lambda *_, drawn=drawn, **__: drawn
        t_next = path[number + 1] if number + 1 < len(path) else None
        results.append(scheduler.step(output, t, x, prev_timestep=t_next).prev_sample)
    about = {"peer": f"diffusers {diffusers.__version__} UnCLIPScheduler", "schedule": "cosine", "path": [*path, -1]}
    about |= {"sampler": "ddpm", "predicts": {"epsilon": "eps", "sample": "x0"}[settings["prediction_type"]]}
    about |= {"variance": settings["variance_type"].removesuffix("_log"), "clip_x0": settings["clip_sample_range"]}
    return about, stacked(results)


def guided(schedule: str, sections: str, variance: str, sampler: str, eta: float = 0.0) -> tuple[dict, np.ndarray]:
    """Returns the same for SpacedDiffusion with a network that predicts the noise."""
    timesteps = respace.space_timesteps(TRAINING_STEPS, sections)
    process = respace.SpacedDiffusion(
        timesteps,
        betas=gaussian_diffusion.get_named_beta_schedule(schedule, TRAINING_STEPS),
        model_mean_type=gaussian_diffusion.ModelMeanType.EPSILON,
        model_var_type=gaussian_diffusion.ModelVarType[variance.upper()],
        loss_type=gaussian_diffusion.LossType.MSE,
    )
    path, channels, results = sorted(timesteps, reverse=True), 6 if variance == "learned_range" else 3, []
    for number in range(len(path)):
        x, output, drawn = inputs(number, channels)
        torch.randn_like = lambda _, drawn=drawn: drawn
        index = torch.full((SHAPE[0],), len(path) - 1 - number)
        if sampler == "ddim":
            step = process.ddim_sample(lambda *_, output=output: output, x, index, eta=eta)
        else:
            step = process.p_sample(lambda *_, output=output: output, x, index)
        results.append(step["sample"])
    about = {"peer": f"openai/guided-diffusion {commit(guided_diffusion)} SpacedDiffusion", "schedule": schedule}
    about |= {"path": [*path, -1], "sampler": sampler, "eta": eta, "predicts": "eps", "variance": variance}
    return about | {"clip_x0": 1.0}, stacked(results)


def stacked(steps: list[torch.Tensor]) -> np.ndarray:
    """Returns steps as a float32 array [steps, rows, height, width, channels]."""
    return torch.stack(steps).permute(0, 1, 3, 4, 2).float().numpy()


if __name__ == "__main__":
    sample = {"prediction_type": "sample", "clip_sample_range": 5.0}
    epsilon = {"prediction_type": "epsilon", "clip_sample_range": 1.0}
    cases = [
        unclip(25, variance_type="fixed_small_log", **sample),
        unclip(25, variance_type="learned_range", **epsilon),
        unclip(7, variance_type="fixed_small_log", **epsilon),
        guided("cosine", "25", "learned_range", "ddpm"),
        guided("linear", "10,10,3,2,2", "learned_range", "ddpm"),
        guided("linear", "25", "fixed_small", "ddpm"),
        guided("linear", "25", "fixed_large", "ddpm"),
        guided("linear", "ddim25", "learned_range", "ddim"),
        guided("cosine", "ddim25", "learned_range", "ddim", eta=0.7),
    ]
    arrays = {f"answers_{number}": results for number, (_, results) in enumerate(cases)}
    np.savez_compressed(HERE / "scheduler-steps.npz", about=json.dumps([about for about, _ in cases]), **arrays)
