import dataclasses

import numpy as np
import pytest

from unclip_jax.diffusion.spec import DiffusionSpec


def test_spec_defaults():
    assert dataclasses.asdict(DiffusionSpec()) == {
        "schedule": "cosine",
        "steps": 1000,
        "predicts": "eps",
        "variance": "fixed_small",
        "clip_x0": 1.0,
    }


def test_spec_computes_its_noise_schedule():
    """The first beta of the linear schedule of 100 steps is 1e-4 * 1000 / 100."""
    schedule = DiffusionSpec(schedule="linear", steps=100).noise_schedule()
    assert schedule.num_steps == 100
    np.testing.assert_allclose(schedule.beta(0, -1), 1e-3, rtol=1e-5)


@pytest.mark.parametrize(
    "fields",
    [
        {"steps": 2},
        {"schedule": "linear", "steps": 21},
        {"predicts": "v", "variance": "learned_range", "clip_x0": None},
        {"predicts": "x0", "variance": "fixed_large", "clip_x0": 3},
    ],
)
def test_spec_accepts_fields_at_their_limits(fields):
    assert DiffusionSpec(**fields).noise_schedule().num_steps == fields.get("steps", 1000)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"schedule": "x"}, "schedule must be one of cosine, linear, got 'x'."),
        ({"schedule": ["cosine"]}, "schedule must be one of cosine, linear, got ['cosine']."),
        ({"predicts": "x1"}, "predicts must be one of eps, x0, v, got 'x1'."),
        ({"predicts": None}, "predicts must be one of eps, x0, v, got None."),
        ({"variance": "large"}, "variance must be one of fixed_small, fixed_large, learned_range, got 'large'."),
        ({"variance": 3}, "variance must be one of fixed_small, fixed_large, learned_range, got 3."),
        ({"steps": 1}, "steps must be an integer of at least 2 for the cosine schedule, got 1."),
        (
            {"schedule": "linear", "steps": 20},
            "steps must be an integer of at least 21 for the linear schedule, got 20.",
        ),
        ({"steps": True}, "steps must be an integer of at least 2 for the cosine schedule, got True."),
        ({"steps": 10.0}, "steps must be an integer of at least 2 for the cosine schedule, got 10.0."),
        ({"steps": None}, "steps must be an integer of at least 2 for the cosine schedule, got None."),
        ({"clip_x0": 0.0}, "clip_x0 must be a positive, finite number or None, got 0.0."),
        ({"clip_x0": True}, "clip_x0 must be a positive, finite number or None, got True."),
        ({"clip_x0": "1"}, "clip_x0 must be a positive, finite number or None, got '1'."),
        ({"clip_x0": float("inf")}, "clip_x0 must be a positive, finite number or None, got inf."),
        ({"clip_x0": float("nan")}, "clip_x0 must be a positive, finite number or None, got nan."),
    ],
)
def test_spec_rejects_unknown_names_and_numbers_out_of_range(fields, message):
    with pytest.raises(ValueError) as error:
        DiffusionSpec(**fields)
    assert str(error.value) == message
