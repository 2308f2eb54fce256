"""Sampling of one stage of a cascade, without the stages before it."""

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
    """Samples `rows` rows of one unguided stage, images in [-1, 1]. If `steps` is None, the stage's own."""
    stage = cascade.stages[name]
    given: dict[str, Any] = {} if steps is None else {"steps": steps}
    return kind_of(stage).sample_stage(
        stage,
        conditions,
        Conditions(),
        settings=dataclasses.replace(stage.spec.sampling, **given),
        request=SampleRequest(seed=seed, image_ids=np.arange(rows), devices=cascade.devices),
    )
