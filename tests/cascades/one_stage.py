"""Sampling of a single stage of a cascade, without the stages before it."""

import dataclasses
from typing import Any

import numpy as np

from unclip_jax.cascades.cascade import Cascade
from unclip_jax.kinds import kind_of
from unclip_jax.sampling.rows import SampleRequest
from unclip_jax.stages.conditions import Conditions


def sample_one(
    cascade: Cascade, name: str, conditions: Conditions, *, rows: int, steps: int | str | None = None, seed: int = 0
) -> np.ndarray:
    """Samples one stage without guidance. Images are in [-1, 1]; `steps=None` uses the default of the stage."""
    stage = cascade.stages[name]
    overrides: dict[str, Any] = {} if steps is None else {"steps": steps}
    return kind_of(stage).sample_stage(
        stage,
        conditions,
        Conditions(),
        settings=dataclasses.replace(stage.spec.sampling, **overrides),
        request=SampleRequest(seed=seed, image_ids=np.arange(rows), devices=cascade.devices),
    )
