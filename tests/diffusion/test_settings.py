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


def test_chosen_has_sampler_and_steps_and_what_is_not_a_default():
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


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"sampler": "euler"}, "sampler of decoder is 'euler'; known: ddpm, ddim, dpm"),
        ({"sampler": None}, "sampler of decoder is None; known: ddpm, ddim, dpm"),
        ({"sampler": ["ddpm"]}, "sampler of decoder is ['ddpm']; known: ddpm, ddim, dpm"),
        ({"steps": 0}, "steps of decoder is 0; it must be from 1 to 1000, the schedule's"),
        ({"steps": 1001}, "steps of decoder is 1001; it must be from 1 to 1000, the schedule's"),
        ({"steps": 2.5}, "steps of decoder is 2.5; it must be a whole number or the name of a path"),
        ({"steps": True}, "steps of decoder is True; it must be a whole number or the name of a path"),
        ({"steps": (10, 5)}, "steps of decoder is (10, 5); it must be a whole number or the name of a path"),
        ({"steps": "fast28"}, "steps of decoder: steps is 'fast28': it must be a number, sections as in"),
        ({"steps": "1001"}, "steps of decoder: num_steps is 1001: it must be from 1 to 1000"),
        ({"guidance_scale": float("nan")}, "guidance_scale of decoder is nan; it must be a finite number"),
        ({"guidance_scale": float("-inf")}, "guidance_scale of decoder is -inf; it must be a finite number"),
        ({"guidance_scale": 10**400}, "guidance_scale of decoder is 1000"),
        ({"guidance_scale": None}, "guidance_scale of decoder is None; it must be a number"),
        ({"guidance_scale": True}, "guidance_scale of decoder is True; it must be a number"),
        ({"guidance_interval": 5}, "guidance_interval of decoder is 5; it must be two steps, the smaller first"),
        ({"guidance_interval": (1,)}, "guidance_interval of decoder is (1,); it must be two steps"),
        ({"guidance_interval": (5, 1)}, "guidance_interval of decoder is (5, 1); it must be two steps"),
        ({"guidance_interval": (0, 1000)}, "guidance_interval of decoder is (0, 1000); it must be two steps"),
        ({"guidance_interval": (-1, 5)}, "guidance_interval of decoder is (-1, 5); it must be two steps"),
        ({"guidance_interval": (0.0, 5)}, "guidance_interval of decoder is (0.0, 5); it must be two steps"),
        ({"guidance_interval": (False, True)}, "guidance_interval of decoder is (False, True); it must be two steps"),
        ({"guidance_rescale": -0.1}, "guidance_rescale of decoder is -0.1; it must be from 0 to 1"),
        ({"guides": {"x": "y"}}, "guides of decoder is {'x': 'y'}; it must map names of guide stages to finite"),
        ({"guides": {1: 2.0}}, "guides of decoder is {1: 2.0}; it must map"),
        ({"guides": {"x": float("inf")}}, "guides of decoder is {'x': inf}; it must map"),
        ({"guides": {"x": True}}, "guides of decoder is {'x': True}; it must map"),
        ({"guides": 3.0}, "guides of decoder is 3.0; it must map"),
        ({"guides": None}, "guides of decoder is None; it must map"),
        ({"eta": "x"}, "eta of decoder is 'x'; it must be a number"),
        ({"eta": np.zeros((2, 1))}, "eta of decoder is array([[0.], [0.]]); it must be a number"),
        ({"eta": 2.0}, "eta of decoder is 2.0; it must be from 0 to 1"),
        ({"eta": float("nan")}, "eta of decoder is nan; it must be from 0 to 1"),
        ({"variance": "huge"}, "variance of decoder is 'huge'; known: fixed_small, fixed_large, learned_range"),
        ({"variance": 3}, "variance of decoder is 3; known: fixed_small"),
        ({"variance": np.array(["fixed_small", "x"])}, "variance of decoder is array(['fixed_small', 'x']"),
        ({"variance": {}}, "variance of decoder is {}; known: fixed_small"),
        ({"threshold": 0.0}, "threshold of decoder is 0.0; it must be a percentile above 0 and up to 100"),
        ({"threshold": 100.5}, "threshold of decoder is 100.5; it must be a percentile"),
        ({"threshold": "99"}, "threshold of decoder is '99'; it must be a percentile"),
        ({"threshold": True}, "threshold of decoder is True; it must be a percentile"),
        ({"threshold_cap": 0.5}, "threshold_cap of decoder is 0.5; it must be a number from 1 upwards"),
        ({"threshold_cap": float("inf")}, "threshold_cap of decoder is inf; it must be a number from 1 upwards"),
        ({"threshold_cap": None}, "threshold_cap of decoder is None; it must be a number"),
        ({"temperature": 0}, "temperature of decoder is 0; it must be a number above 0"),
        ({"temperature": [1.0]}, "temperature of decoder is [1.0]; it must be a number"),
        ({"candidates": 0}, "candidates of decoder is 0; it must be 1 or more"),
        ({"candidates": 1.5}, "candidates of decoder is 1.5; it must be a whole number"),
        ({"candidates": None}, "candidates of decoder is None; it must be a whole number"),
        ({"candidates": True}, "candidates of decoder is True; it must be a whole number"),
    ],
)
def test_check_refuses_wrong_values_in_one_line(fields, message):
    with pytest.raises(ValueError) as error:
        SamplingSettings(**fields).check("decoder", 1000)
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)
