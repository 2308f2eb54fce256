import jax.numpy as jnp
import numpy as np
import pytest

from tests import reference_networks as reference
from tests.quick import jit
from tests.randomised import initialised
from unclip_jax.models.upsampler import Upsampler

MODULE = Upsampler(image_size=8, channels=8, channel_mult=(1, 2), res_blocks=1, groups=4)
RANDOM = np.random.default_rng(0)
X_T, LOW_RES = RANDOM.standard_normal((2, 2, 4, 4, 3)).astype(np.float32)
T = np.array([3, 700])
PARAMS = initialised(MODULE, X_T, T, LOW_RES)
apply = jit(lambda x_t, t, low_res: MODULE.apply({"params": PARAMS}, x_t, t, low_res))


def test_upsampler_matches_the_reference():
    fields = {"levels": 2, "res_blocks": 1, "attentive": (), "heads": None, "groups": 4, "scale_shift": False}
    both = np.concatenate([X_T, LOW_RES], axis=-1).astype(np.float64)
    expected = reference.unet(PARAMS["unet"], both, T, **fields)
    actual, tolerance = apply(X_T, T, LOW_RES), 5e-5
    assert actual.shape == X_T.shape and actual.dtype == jnp.float32
    np.testing.assert_allclose(actual, expected, atol=tolerance)
    for other in (apply(LOW_RES, T, X_T), apply(X_T, T + 40, LOW_RES), apply(X_T, T, -LOW_RES)):
        assert np.abs(other - expected).max() > 10 * tolerance


def test_upsampler_has_no_attention():
    assert not [name for name in PARAMS["unet"] if "attention" in name]


def test_upsampler_rejects_low_res_images_that_were_not_resized():
    with pytest.raises(ValueError, match=r"low_res must be resized to \[2, 4, 4, 3\], .* got \[2, 2, 2, 3\]"):
        apply(X_T, T, LOW_RES[:, ::2, ::2])
