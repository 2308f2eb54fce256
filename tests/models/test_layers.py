import math

import jax.numpy as jnp
import numpy as np
import pytest

from tests import reference_networks as reference
from tests.randomised import initialised
from unclip_jax.models.layers import (
    GroupNorm,
    LayerNorm,
    TimeEmbedding,
    activation,
    position_sinusoids,
    timestep_sinusoid,
)


def test_sinusoid_has_cosines_first_and_frequencies_from_one_down():
    found = timestep_sinusoid(jnp.array([0, 7]), 4)
    # Frequencies 1 and 10000^(-1/2) = 0.01.
    wanted = [[1.0, 1.0, 0.0, 0.0], [math.cos(7.0), math.cos(0.07), math.sin(7.0), math.sin(0.07)]]
    np.testing.assert_allclose(found, wanted, atol=1e-6)
    assert found.dtype == jnp.float32


def test_sinusoid_holds_its_phase_at_the_last_step():
    # The phase, 999 rad at most, is good to half a unit in the last place of float32: 3e-5, and its frequency as much.
    np.testing.assert_allclose(timestep_sinusoid(jnp.array([999]), 64), reference.sinusoid([999], 64), atol=1e-4)


def test_sinusoid_of_odd_width_is_refused():
    with pytest.raises(ValueError, match="width 5 of a timestep sinusoid is odd"):
        timestep_sinusoid(jnp.array([0]), 5)


def test_positions_begin_as_sines_of_rows_and_columns_as_large_as_what_patches_say():
    found = position_sinusoids(2, 9)  # frequencies 1 and 4^(-1/2); the ninth channel has no position
    wave = [
        [math.sqrt(2) * f(place * rate) for f in (math.sin, math.cos) for rate in (1.0, 0.5)] for place in (0, 1)
    ]
    rows = [[0.0] * 8, wave[0] + wave[0], wave[0] + wave[1], wave[1] + wave[0], wave[1] + wave[1]]
    np.testing.assert_allclose(found, np.pad(rows, ((0, 0), (0, 1))), atol=1e-6)
    assert found.dtype == jnp.float32
    # sin^2 + cos^2 = 1, twice over: each patch's mean square is 1.
    np.testing.assert_allclose(np.square(position_sinusoids(8, 128))[1:].mean(1), 1.0, rtol=1e-5)


def test_time_embedding_is_linear_silu_linear():
    module, x = TimeEmbedding(6), np.random.default_rng(0).standard_normal((2, 4))
    params = initialised(module, x)
    wanted = reference.dense(params["linear_2"], reference.silu(reference.dense(params["linear_1"], x)))
    np.testing.assert_allclose(module.apply({"params": params}, x), wanted, atol=1e-5)


@pytest.mark.parametrize("shape", [(2, 4, 4, 12), (2, 7, 12)])
def test_group_norm_normalises_neighbouring_channels_together(shape):
    # A mean of fifty deviations: squares that are subtracted, or shared by other channels, would show.
    x = 50.0 + np.random.default_rng(0).standard_normal(shape) * np.linspace(0.5, 2.0, 12)
    module = GroupNorm(groups=3)
    params = initialised(module, x)
    x = x.astype(np.float32)
    wanted = reference.group_norm(params, x.astype(np.float64), 3)
    np.testing.assert_allclose(module.apply({"params": params}, x), wanted, atol=2e-5)


def test_norms_of_bfloat16_are_computed_in_float32_and_answer_in_their_dtype():
    # A mean of 20 deviations, with deviations that bfloat16 tells apart: its own sums would be off by several of them.
    x = jnp.asarray(20.0 + np.random.default_rng(0).standard_normal((2, 64, 16)), jnp.bfloat16)
    exact = np.asarray(x, np.float64)
    for module, wanted in (
        (GroupNorm(4, jnp.bfloat16), lambda p: reference.group_norm(p, exact, 4)),
        (LayerNorm(jnp.bfloat16), lambda p: reference.layer_norm(p, exact)),
    ):
        params = initialised(module, x)
        found = module.apply({"params": params}, x)
        assert found.dtype == jnp.bfloat16
        # Rounding of the answer alone: 2^-9 of it, and its largest are about 5.
        np.testing.assert_allclose(found.astype(np.float32), wanted(params), rtol=2**-8, atol=2e-3)


def test_layer_norm_normalises_the_last_axis():
    x = 50.0 + np.random.default_rng(0).standard_normal((2, 3, 16)).astype(np.float32)
    params = initialised(LayerNorm(), x)
    wanted = reference.layer_norm(params, x.astype(np.float64))
    np.testing.assert_allclose(LayerNorm().apply({"params": params}, x), wanted, atol=2e-5)


def test_groups_that_do_not_divide_the_channels_are_refused():
    with pytest.raises(ValueError, match="groups 32 does not divide 48 channels; use a divisor, as 16"):
        initialised(GroupNorm(32), np.ones((1, 2, 2, 48)))


def test_activations_are_the_exact_and_the_quick_gelu():
    x = jnp.array([-2.0, -0.5, 0.0, 1.0, 3.0])
    np.testing.assert_allclose(activation("gelu")(x), reference.gelu(np.asarray(x, np.float64)), atol=1e-6)
    np.testing.assert_allclose(activation("quick_gelu")(x), reference.quick_gelu(np.asarray(x, np.float64)), atol=1e-6)
    assert abs(float(activation("gelu")(x)[3] - activation("quick_gelu")(x)[3])) > 1e-3


def test_unknown_activation_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="activation 'relu' is unknown; known: gelu, quick_gelu"):
        activation("relu")
