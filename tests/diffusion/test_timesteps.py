import numpy as np
import pytest

from unclip_jax.diffusion.timesteps import (
    ascending,
    even_path,
    fast27_path,
    named_path,
    padded_path,
    section_path,
    segments,
    stride_path,
)

FAST27 = [0, 22, 44, 66, 88, 111, 133, 155, 177, 199, 200, 222, 244, 266, 288, 311, 333, 355, 377, 399, 400, 500, 599]
FAST27 += [600, 799, 800, 997]


def test_even_path_matches_karlo():
    path = even_path(25)
    assert path.dtype == np.int32 and len(path) == 26
    np.testing.assert_array_equal(path[::-1][:7], [-1, 0, 42, 83, 125, 166, 208])
    np.testing.assert_array_equal(path[:2], [999, 957])
    np.testing.assert_array_equal(
        even_path(7), [999, 832, 666, 500, 333, 166, 0, -1]
    )  # 499.5 and 832.5 are rounded to even


def test_even_path_of_all_steps_visits_every_step():
    np.testing.assert_array_equal(even_path(1000), np.arange(999, -2, -1))
    np.testing.assert_array_equal(even_path(10, total=10), np.arange(9, -2, -1))


def test_even_path_descends_strictly_from_the_last_step_to_clean():
    for num_steps in range(2, 101):
        path = even_path(num_steps, total=100)
        assert path[0] == 99 and path[-2] == 0 and path[-1] == -1 and len(path) == num_steps + 1
        assert np.all(np.diff(path) < 0)
    np.testing.assert_array_equal(even_path(1), [999, -1])


@pytest.mark.parametrize("num_steps", [0, -3, 1001])
def test_even_path_rejects_lengths_out_of_range(num_steps):
    with pytest.raises(ValueError, match=f"num_steps must be between 1 and 1000, got {num_steps}"):
        even_path(num_steps)


def test_even_path_rejects_fractional_lengths():
    with pytest.raises(TypeError):
        even_path(2.5)


def test_fast27_path_matches_glide():
    path = fast27_path()
    assert path.dtype == np.int32
    np.testing.assert_array_equal(path[::-1], [-1, *FAST27])


def test_section_path_spaces_steps_within_each_section():
    np.testing.assert_array_equal(section_path((10, 10, 3, 2, 2))[::-1], [-1, *FAST27[:-1], 999])
    # Ten steps in sections of 4, 3 and 3. A single step is the first of its section.
    np.testing.assert_array_equal(section_path((3, 1, 2), total=10)[::-1], [-1, 0, 2, 3, 4, 7, 9])
    np.testing.assert_array_equal(section_path((100,)), even_path(100))


def test_stride_path_has_an_integer_stride():
    np.testing.assert_array_equal(stride_path(50), [*range(980, -1, -20), -1])
    np.testing.assert_array_equal(stride_path(1000), even_path(1000))
    np.testing.assert_array_equal(stride_path(4, total=10), [9, 6, 3, 0, -1])
    np.testing.assert_array_equal(stride_path(1, total=10), [0, -1])


@pytest.mark.parametrize(
    ("name", "path"),
    [
        (25, even_path(25)),
        ("25", even_path(25)),
        ("10,10,3,2,2", section_path((10, 10, 3, 2, 2))),
        ("fast27", fast27_path()),
        ("ddim25", stride_path(25)),
    ],
)
def test_named_path_returns_the_path(name, path):
    np.testing.assert_array_equal(named_path(name), path)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "fast28",
            "Unknown path 'fast28'. Use a number of steps, sections such as '10,10,3,2,2', 'fast27', or a stride",
        ),
        ("2.5", "Unknown path '2.5'"),
        ("ddim", "Unknown path 'ddim'"),
        ("", "Unknown path ''"),
        ("10,x", "Unknown path '10,x'"),
        ("0", "num_steps must be between 1 and 1000, got 0"),
        (-3, "num_steps must be between 1 and 1000, got -3"),
        ("5,0", r"section 1 of \[5, 0\] must have between 1 and 500 steps, got 0"),
        ("5,501", r"section 1 of \[5, 501\] must have between 1 and 500 steps, got 501"),
        ("ddim333", r"num_steps must be ceil\(1000 / k\) for an integer stride k, got 333"),
        ("ddim0", "for an integer stride k, got 0"),
    ],
)
def test_named_path_rejects_unknown_names(name, message):
    with pytest.raises(ValueError, match=message):
        named_path(name)


def test_ascending_reverses_a_path():
    np.testing.assert_array_equal(ascending(even_path(5)), [0, 250, 500, 749, 999])
    np.testing.assert_array_equal(ascending(padded_path(even_path(2), 4)), [0, 999])


def test_padded_path_repeats_the_last_entry():
    np.testing.assert_array_equal(padded_path(np.array([5, 3, -1]), 4), [5, 3, -1, -1, -1])
    np.testing.assert_array_equal(padded_path(np.array([5, 3, -1]), 2), [5, 3, -1])
    np.testing.assert_array_equal(padded_path(np.array([0, 4, 9]), 5), [0, 4, 9, 9, 9, 9])


def test_segments_overlap_by_one_entry():
    np.testing.assert_array_equal(segments(np.array([9, 7, 5, 3, 1, -1]), 2), [[9, 7, 5], [5, 3, 1], [1, -1, -1]])
    assert segments(even_path(1), 8).shape == (1, 9)
    with pytest.raises(ValueError, match="length must be at least 1, got 0"):
        segments(even_path(4), 0)
