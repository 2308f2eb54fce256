"""Conditions: repeating, selecting and merging of rows."""

import numpy as np

from unclip_jax.stages.conditions import Conditions, Tokens


def conditions(rows: int = 2) -> Conditions:
    numbers = np.arange(rows)
    return Conditions(
        tokens={"base": Tokens(numbers[:, None], numbers[:, None] > 0)},
        image_embedding={"clip": numbers[:, None] * 1.0},
        labels=numbers,
    )


def test_repeat_puts_repeats_of_a_row_next_to_each_other():
    repeated = conditions().repeat(3)
    np.testing.assert_array_equal(repeated.labels, [0, 0, 0, 1, 1, 1])
    np.testing.assert_array_equal(repeated.tokens["base"].ids[:, 0], [0, 0, 0, 1, 1, 1])
    assert repeated.low_res is None


def test_with_rows_repeats_only_arrays_with_fewer_rows():
    mixed = conditions(2).merge(Conditions(image_embedding={"clip": np.arange(6.0)[:, None]}))
    full = mixed.with_rows(6)
    np.testing.assert_array_equal(full.labels, [0, 0, 0, 1, 1, 1])
    np.testing.assert_array_equal(full.image_embedding["clip"][:, 0], np.arange(6.0))


def test_take_and_rows_select_the_same_rows_of_all_fields():
    chosen = conditions(4).take(np.array([3, 1]))
    np.testing.assert_array_equal(chosen.labels, [3, 1])
    np.testing.assert_array_equal(chosen.image_embedding["clip"][:, 0], [3, 1])
    np.testing.assert_array_equal(conditions(4).rows(2).labels, [2])


def test_merge_prefers_values_of_other_and_keeps_the_rest():
    merged = conditions().merge(Conditions(image_embedding={"clip": np.ones((2, 1)), "t5": np.zeros((2, 1))}))
    np.testing.assert_array_equal(merged.image_embedding["clip"], np.ones((2, 1)))
    assert set(merged.image_embedding) == {"clip", "t5"} and set(merged.tokens) == {"base"}
    np.testing.assert_array_equal(merged.labels, [0, 1])
