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


def test_fast27_is_glides():
    path = fast27_path()
    assert path.dtype == np.int32
    np.testing.assert_array_equal(path[::-1], [-1, *FAST27])


def test_sections_each_have_their_steps_from_the_first_to_the_last():
    np.testing.assert_array_equal(section_path((10, 10, 3, 2, 2))[::-1], [-1, *FAST27[:-1], 999])
    # ten steps in sections of 4, 3 and 3; a single step is the section's first
    np.testing.assert_array_equal(section_path((3, 1, 2), total=10)[::-1], [-1, 0, 2, 3, 4, 7, 9])
    np.testing.assert_array_equal(section_path((100,)), even_path(100))


def test_strides_are_whole():
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
def test_paths_by_name(name, path):
    np.testing.assert_array_equal(named_path(name), path)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("fast28", "steps is 'fast28': it must be a number, sections as in '10,10,3,2,2', 'fast27' or as 'ddim50'"),
        ("2.5", "steps is '2.5': it must be a number"),
        ("ddim", "steps is 'ddim'"),
        ("", "steps is ''"),
        ("10,x", "steps is '10,x'"),
        ("0", "num_steps is 0: it must be from 1 to 1000"),
        (-3, "num_steps is -3: it must be from 1 to 1000"),
        ("5,0", r"section 1 of \[5, 0\] takes 0 steps: it must be from 1 to 500"),
        ("5,501", r"section 1 of \[5, 501\] takes 501 steps: it must be from 1 to 500"),
        ("ddim333", "num_steps is 333: no whole stride through 1000 steps has so many"),
        ("ddim0", "num_steps is 0: no whole stride"),
    ],
)
def test_impossible_names_are_refused(name, message):
    with pytest.raises(ValueError, match=message):
        named_path(name)


def test_a_path_upwards_ends_where_the_way_down_begins():
    np.testing.assert_array_equal(ascending(even_path(5)), [0, 250, 500, 749, 999])
    np.testing.assert_array_equal(ascending(padded_path(even_path(2), 4)), [0, 999])


def test_padding_repeats_the_last_entry():
    np.testing.assert_array_equal(padded_path(np.array([5, 3, -1]), 4), [5, 3, -1, -1, -1])
    np.testing.assert_array_equal(padded_path(np.array([5, 3, -1]), 2), [5, 3, -1])
    np.testing.assert_array_equal(padded_path(np.array([0, 4, 9]), 5), [0, 4, 9, 9, 9, 9])


def test_segments_overlap_in_one_entry():
    np.testing.assert_array_equal(segments(np.array([9, 7, 5, 3, 1, -1]), 2), [[9, 7, 5], [5, 3, 1], [1, -1, -1]])
    assert segments(even_path(1), 8).shape == (1, 9)
    with pytest.raises(ValueError, match="segment length is 0"):
        segments(even_path(4), 0)
