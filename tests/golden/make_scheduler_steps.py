"""Makes scheduler-steps.npz: single steps of diffusers' UnCLIPScheduler and of guided-diffusion's respaced process.

    PYTHONPATH=<checkout of openai/guided-diffusion> python -m tests.golden.make_scheduler_steps

Needs `parity`. x_t, the network's answer and the noise are drawn by `drawn.noise`. UnCLIPScheduler's tables are set to
float64, from its own float32 betas: in float32 its 1 - alpha_bar_0 has lost three digits.
"""

import json

import diffusers
import guided_diffusion
import numpy as np
import torch
from diffusers.schedulers import scheduling_unclip
from guided_diffusion import gaussian_diffusion, respace

from tests.golden.drawn import noise
from tests.golden.peer import HERE, commit

SHAPE = (2, 4, 4, 3)
TRAINED = 1000


def given(step: int, channels: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """x_t, the network's answer, and the noise of a step, channels second."""
    arrays = noise("x", step, SHAPE), noise("answer", step, (*SHAPE[:-1], channels)), noise("noise", step, SHAPE)
    return tuple(torch.from_numpy(array.transpose(0, 3, 1, 2).copy()) for array in arrays)


def unclip(steps: int, **settings) -> tuple[dict, np.ndarray]:
    """One step from every t of the respaced schedule."""
    scheduler = diffusers.UnCLIPScheduler(**settings)
    scheduler.betas = scheduler.betas.double()
    scheduler.alphas = 1.0 - scheduler.betas
    scheduler.alphas_cumprod = scheduler.alphas.cumprod(0)
    scheduler.set_timesteps(steps)
    path = [int(t) for t in scheduler.timesteps]
    channels, made = 6 if settings["variance_type"] == "learned_range" else 3, []
    for number, t in enumerate(path):
        x, answer, drawn = given(number, channels)
        scheduling_unclip.randn_tensor = lambda *_, drawn=drawn, **__: drawn
        following = path[number + 1] if number + 1 < len(path) else None
        made.append(scheduler.step(answer, t, x, prev_timestep=following).prev_sample)
    about = {"peer": f"diffusers {diffusers.__version__} UnCLIPScheduler", "schedule": "cosine", "path": [*path, -1]}
    about |= {"sampler": "ddpm", "predicts": {"epsilon": "eps", "sample": "x0"}[settings["prediction_type"]]}
    about |= {"variance": settings["variance_type"].removesuffix("_log"), "clip_x0": settings["clip_sample_range"]}
    return about, stacked(made)


def guided(schedule: str, sections: str, variance: str, sampler: str, eta: float = 0.0) -> tuple[dict, np.ndarray]:
    """The same of SpacedDiffusion, whose network predicts the noise."""
    kept = respace.space_timesteps(TRAINED, sections)
    process = respace.SpacedDiffusion(
        kept,
        betas=gaussian_diffusion.get_named_beta_schedule(schedule, TRAINED),
        model_mean_type=gaussian_diffusion.ModelMeanType.EPSILON,
        model_var_type=gaussian_diffusion.ModelVarType[variance.upper()],
        loss_type=gaussian_diffusion.LossType.MSE,
    )
    path, channels, made = sorted(kept, reverse=True), 6 if variance == "learned_range" else 3, []
    for number in range(len(path)):
        x, answer, drawn = given(number, channels)
        torch.randn_like = lambda _, drawn=drawn: drawn
        place = torch.full((SHAPE[0],), len(path) - 1 - number)
        if sampler == "ddim":
            step = process.ddim_sample(lambda *_, answer=answer: answer, x, place, eta=eta)
        else:
            step = process.p_sample(lambda *_, answer=answer: answer, x, place)
        made.append(step["sample"])
    about = {"peer": f"openai/guided-diffusion {commit(guided_diffusion)} SpacedDiffusion", "schedule": schedule}
    about |= {"path": [*path, -1], "sampler": sampler, "eta": eta, "predicts": "eps", "variance": variance}
    return about | {"clip_x0": 1.0}, stacked(made)


def stacked(steps: list[torch.Tensor]) -> np.ndarray:
    """float32 [steps, rows, height, width, channels]"""
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
    arrays = {f"answers_{number}": answers for number, (_, answers) in enumerate(cases)}
    np.savez_compressed(HERE / "scheduler-steps.npz", about=json.dumps([about for about, _ in cases]), **arrays)
