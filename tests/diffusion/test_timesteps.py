import numpy as np
import pytest

from unclip_jax.diffusion.timesteps import even_path, padded_path, segments


def test_paths_are_karlos():
    path = even_path(25)
    assert path.dtype == np.int32 and len(path) == 26
    np.testing.assert_array_equal(path[::-1][:7], [-1, 0, 42, 83, 125, 166, 208])
    np.testing.assert_array_equal(path[:2], [999, 957])
    np.testing.assert_array_equal(even_path(7), [999, 832, 666, 500, 333, 166, 0, -1])  # 499.5 and 832.5 go to even


def test_a_path_of_all_steps_leaves_none_out():
    np.testing.assert_array_equal(even_path(1000), np.arange(999, -2, -1))
    np.testing.assert_array_equal(even_path(10, total=10), np.arange(9, -2, -1))


def test_every_length_descends_strictly_from_the_last_step_to_clean():
    for num_steps in range(2, 101):
        path = even_path(num_steps, total=100)
        assert path[0] == 99 and path[-2] == 0 and path[-1] == -1 and len(path) == num_steps + 1
        assert np.all(np.diff(path) < 0)
    np.testing.assert_array_equal(even_path(1), [999, -1])


@pytest.mark.parametrize("num_steps", [0, -3, 1001])
def test_impossible_lengths_are_refused(num_steps):
    with pytest.raises(ValueError, match=f"num_steps is {num_steps}: it must be from 1 to 1000"):
        even_path(num_steps)


def test_a_fraction_of_a_step_is_refused():
    with pytest.raises(TypeError):
        even_path(2.5)


def test_padding_repeats_the_last_entry():
    np.testing.assert_array_equal(padded_path(np.array([5, 3, -1]), 4), [5, 3, -1, -1, -1])
    np.testing.assert_array_equal(padded_path(np.array([5, 3, -1]), 2), [5, 3, -1])
    np.testing.assert_array_equal(padded_path(np.array([0, 4, 9]), 5), [0, 4, 9, 9, 9, 9])


def test_segments_overlap_in_one_entry():
    np.testing.assert_array_equal(segments(np.array([9, 7, 5, 3, 1, -1]), 2), [[9, 7, 5], [5, 3, 1], [1, -1, -1]])
    assert segments(even_path(1), 8).shape == (1, 9)
    with pytest.raises(ValueError, match="segment length is 0"):
        segments(even_path(4), 0)
