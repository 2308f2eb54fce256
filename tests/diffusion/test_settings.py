import numpy as np
import pytest

from unclip_jax.diffusion.settings import SamplingSettings


@pytest.mark.parametrize(
    ("given", "schedule_steps", "steps"),
    [(None, 1000, 250), (None, 64, 64), ("fast27", 64, "fast27"), (5, 64, 5)],
)
def test_resolved_fills_in_the_default_steps(given, schedule_steps, steps):
    settings = SamplingSettings(steps=given, eta=0.5).resolved(schedule_steps)
    assert settings == SamplingSettings(steps=steps, eta=0.5)


def test_chosen_returns_sampler_steps_and_changed_fields():
    assert SamplingSettings().chosen() == {"sampler": "ddpm", "steps": None}
    settings = SamplingSettings(sampler="ddim", steps=10, guidance_scale=3.0, guides={"clip": 2.0}, eta=0.0)
    assert settings.chosen() == {"sampler": "ddim", "steps": 10, "guidance_scale": 3.0, "guides": {"clip": 2.0}}


def test_settings_are_hashable():
    assert hash(SamplingSettings(guides={"clip": 2.0})) == hash(SamplingSettings(guides={"clip": 3.0}))


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"sampler": "dpm", "steps": "10,10,3,2,2"},
        {"steps": np.int64(5), "guidance_scale": np.float32(3.0)},
        {"steps": 1000, "guidance_scale": -2, "guidance_interval": [0, 999], "guidance_rescale": 1},
        {"guides": {"noised_clip": 2.5, "noised_classifier": -1}},
        {"eta": 1.0, "variance": "learned_range", "threshold": 100, "threshold_cap": 1.0, "temperature": 0.997},
    ],
)
def test_check_accepts_valid_settings(fields):
    settings = SamplingSettings(**fields)
    assert settings.check("decoder", 1000) is settings


INTERVAL = "guidance_interval of decoder must be two steps between 0 and 999, in ascending order, got "
GUIDES = "guides of decoder must be a mapping from names of guide stages to finite numbers, got "
VARIANCE = "variance of decoder must be one of fixed_small, fixed_large, learned_range, got "


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"sampler": "euler"}, "sampler of decoder must be one of ddpm, ddim, dpm, got 'euler'."),
        ({"sampler": None}, "sampler of decoder must be one of ddpm, ddim, dpm, got None."),
        ({"sampler": ["ddpm"]}, "sampler of decoder must be one of ddpm, ddim, dpm, got ['ddpm']."),
        ({"steps": 0}, "steps of decoder must be between 1 and 1000, got 0."),
        ({"steps": 1001}, "steps of decoder must be between 1 and 1000, got 1001."),
        ({"steps": 2.5}, "steps of decoder must be an integer or the name of a path, got 2.5."),
        ({"steps": True}, "steps of decoder must be an integer or the name of a path, got True."),
        ({"steps": (10, 5)}, "steps of decoder must be an integer or the name of a path, got (10, 5)."),
        ({"steps": "fast28"}, "steps of decoder: Unknown path 'fast28'. Use a number of steps, sections such as"),
        ({"steps": "1001"}, "steps of decoder: num_steps must be between 1 and 1000, got 1001."),
        ({"guidance_scale": float("nan")}, "guidance_scale of decoder must be a finite number, got nan."),
        ({"guidance_scale": float("-inf")}, "guidance_scale of decoder must be a finite number, got -inf."),
        ({"guidance_scale": 10**400}, "guidance_scale of decoder must be a finite number, got 1000"),
        ({"guidance_scale": None}, "guidance_scale of decoder must be a number, got None."),
        ({"guidance_scale": True}, "guidance_scale of decoder must be a number, got True."),
        ({"guidance_interval": 5}, f"{INTERVAL}5."),
        ({"guidance_interval": (1,)}, f"{INTERVAL}(1,)."),
        ({"guidance_interval": (5, 1)}, f"{INTERVAL}(5, 1)."),
        ({"guidance_interval": (0, 1000)}, f"{INTERVAL}(0, 1000)."),
        ({"guidance_interval": (-1, 5)}, f"{INTERVAL}(-1, 5)."),
        ({"guidance_interval": (0.0, 5)}, f"{INTERVAL}(0.0, 5)."),
        ({"guidance_interval": (False, True)}, f"{INTERVAL}(False, True)."),
        ({"guidance_rescale": -0.1}, "guidance_rescale of decoder must be in [0, 1], got -0.1."),
        ({"guides": {"x": "y"}}, f"{GUIDES}{{'x': 'y'}}."),
        ({"guides": {1: 2.0}}, f"{GUIDES}{{1: 2.0}}."),
        ({"guides": {"x": float("inf")}}, f"{GUIDES}{{'x': inf}}."),
        ({"guides": {"x": True}}, f"{GUIDES}{{'x': True}}."),
        ({"guides": 3.0}, f"{GUIDES}3.0."),
        ({"guides": None}, f"{GUIDES}None."),
        ({"eta": "x"}, "eta of decoder must be a number, got 'x'."),
        ({"eta": np.zeros((2, 1))}, "eta of decoder must be a number, got array([[0.], [0.]])."),
        ({"eta": 2.0}, "eta of decoder must be in [0, 1], got 2.0."),
        ({"eta": float("nan")}, "eta of decoder must be in [0, 1], got nan."),
        ({"variance": "huge"}, f"{VARIANCE}'huge'."),
        ({"variance": 3}, f"{VARIANCE}3."),
        ({"variance": np.array(["fixed_small", "x"])}, f"{VARIANCE}array(['fixed_small', 'x']"),
        ({"variance": {}}, f"{VARIANCE}{{}}."),
        ({"threshold": 0.0}, "threshold of decoder must be a percentile in (0, 100], got 0.0."),
        ({"threshold": 100.5}, "threshold of decoder must be a percentile in (0, 100], got 100.5."),
        ({"threshold": "99"}, "threshold of decoder must be a percentile in (0, 100], got '99'."),
        ({"threshold": True}, "threshold of decoder must be a percentile in (0, 100], got True."),
        ({"threshold_cap": 0.5}, "threshold_cap of decoder must be finite and at least 1, got 0.5."),
        ({"threshold_cap": float("inf")}, "threshold_cap of decoder must be finite and at least 1, got inf."),
        ({"threshold_cap": None}, "threshold_cap of decoder must be a number, got None."),
        ({"temperature": 0}, "temperature of decoder must be positive and finite, got 0."),
        ({"temperature": [1.0]}, "temperature of decoder must be a number, got [1.0]."),
        ({"candidates": 0}, "candidates of decoder must be at least 1, got 0."),
        ({"candidates": 1.5}, "candidates of decoder must be an integer, got 1.5."),
        ({"candidates": None}, "candidates of decoder must be an integer, got None."),
        ({"candidates": True}, "candidates of decoder must be an integer, got True."),
    ],
)
def test_check_rejects_invalid_values_with_one_line(fields, message):
    with pytest.raises(ValueError) as error:
        SamplingSettings(**fields).check("decoder", 1000)
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)
