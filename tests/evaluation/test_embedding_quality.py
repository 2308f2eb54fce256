"""Retrieval and cosines on vectors whose angles are known."""

import numpy as np
import pytest

from unclip_jax.evaluation.embedding_quality import choices, prior_cosine, retrieval


def test_lengths_do_not_matter_and_every_pair_is_found():
    image = np.diag([1.0, 20.0, 0.3])
    found = retrieval(image, 5.0 * np.eye(3))
    assert (found.n, found.text_to_image, found.image_to_text) == (3, 1.0, 1.0)


def test_the_two_directions_are_told_apart():
    image = np.array([[1.0, 0.0], [0.0, 1.0]])
    text = np.array([[1.0, 0.1], [1.0, 0.2]])  # both nearest to the first picture
    found = retrieval(image, text)
    assert found.text_to_image == 0.5
    assert found.image_to_text == 1.0  # the second picture is a little nearer to the second text


def test_a_collapsed_tower_finds_nothing():
    found = retrieval(np.ones((4, 3)), np.eye(4)[:, :3] + 1.0)
    assert found.text_to_image == 0.0
    assert retrieval(np.ones((4, 3)), np.ones((4, 3))).image_to_text == 0.0


def test_choices_are_the_nearest_by_angle_and_a_tie_is_none():
    text = np.array([[3.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    image = np.array([[2.0, 1.9], [0.1, 9.0], [1.0, 0.1], [-1.0, 0.0]])
    assert choices(image, np.stack([text] * 4)).tolist() == [2, 1, 0, 1]
    assert choices(np.array([[1.0, 1.0]]), text[None, :2]).tolist() == [-1]


def test_prior_cosine_of_known_angles():
    true = np.array([[2.0, 0.0], [0.0, 3.0]])
    generated = np.array([[1.0, 1.0], [0.0, 5.0]])  # 45 degrees from both; 0 and 90 degrees
    result = prior_cosine(generated, true)
    assert result.cosine == pytest.approx((np.sqrt(0.5) + 1.0) / 2)
    assert result.cosine_shuffled == pytest.approx((np.sqrt(0.5) + 0.0) / 2)
    assert result.n == 2
