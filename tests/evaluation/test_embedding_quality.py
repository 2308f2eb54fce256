"""Retrieval and cosine similarities on vectors with known angles."""

import numpy as np
import pytest

from unclip_jax.evaluation.embedding_quality import choices, prior_cosine, retrieval


def test_retrieval_does_not_depend_on_vector_lengths():
    image = np.diag([1.0, 20.0, 0.3])
    actual = retrieval(image, 5.0 * np.eye(3))
    assert (actual.n, actual.text_to_image, actual.image_to_text) == (3, 1.0, 1.0)


def test_retrieval_is_reported_per_direction():
    image = np.array([[1.0, 0.0], [0.0, 1.0]])
    text = np.array([[1.0, 0.1], [1.0, 0.2]])  # both are closest to the first image
    actual = retrieval(image, text)
    assert actual.text_to_image == 0.5
    assert actual.image_to_text == 1.0  # the second image is slightly closer to the second text


def test_retrieval_of_collapsed_encoder_is_zero():
    actual = retrieval(np.ones((4, 3)), np.eye(4)[:, :3] + 1.0)
    assert actual.text_to_image == 0.0
    assert retrieval(np.ones((4, 3)), np.ones((4, 3))).image_to_text == 0.0


def test_choices_are_the_closest_texts_and_ties_are_minus_one():
    text = np.array([[3.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    image = np.array([[2.0, 1.9], [0.1, 9.0], [1.0, 0.1], [-1.0, 0.0]])
    assert choices(image, np.stack([text] * 4)).tolist() == [2, 1, 0, 1]
    assert choices(np.array([[1.0, 1.0]]), text[None, :2]).tolist() == [-1]


def test_prior_cosine_of_known_angles():
    true = np.array([[2.0, 0.0], [0.0, 3.0]])
    generated = np.array([[1.0, 1.0], [0.0, 5.0]])  # at 45 degrees to both; at 90 and 0 degrees
    result = prior_cosine(generated, true)
    assert result.cosine == pytest.approx((np.sqrt(0.5) + 1.0) / 2)
    assert result.cosine_shuffled == pytest.approx((np.sqrt(0.5) + 0.0) / 2)
    assert result.n == 2
