"""The moving average, by hand."""

import jax.numpy as jnp
import numpy as np
import pytest

from unclip_jax.training import ema


def test_three_updates_by_hand():
    average, seen = {"w": jnp.array(10.0)}, []
    for count, value in enumerate((0.0, 20.0, 5.0)):
        average = ema.update(average, {"w": jnp.array(value)}, ema.decay(count, 0.2))
        seen.append(float(average["w"]))
    # d = 1/10, 2/11, then 3/12 = 0.25, which the limit makes 0.2
    first = 0.1 * 10.0
    second = 2 / 11 * first + 9 / 11 * 20.0
    np.testing.assert_allclose(seen, [first, second, 0.2 * second + 0.8 * 5.0], rtol=1e-6)


@pytest.mark.parametrize(("count", "d"), [(0, 0.1), (8, 0.5), (890, 0.99), (10**6, 0.999)])
def test_the_decay_grows_to_its_limit(count, d):
    assert float(ema.decay(count, 0.999)) == pytest.approx(d, rel=1e-6)
