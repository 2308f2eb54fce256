"""Statistics of embeddings and standardization."""

import numpy as np

from unclip_jax.stages import embedding_statistics
from unclip_jax.stages.embedding_statistics import EmbeddingStatistics


def test_fit_uses_the_first_rows_in_whole_batches():
    batches = [np.array([[0.0, 1.0], [2.0, 1.0]]), np.array([[4.0, 4.0], [6.0, 2.0]]), np.array([[1e6, 1e6]])]
    found = embedding_statistics.fit(iter(batches), rows=3)
    np.testing.assert_allclose(found.mean, [3.0, 2.0])
    np.testing.assert_allclose(found.std, [np.sqrt(5.0), np.sqrt(1.5)], rtol=1e-6)
    assert found.mean.dtype == found.std.dtype == np.float32


def test_fit_uses_all_rows_when_there_are_fewer():
    found = embedding_statistics.fit(iter([np.array([[1.0], [3.0]])]), rows=100)
    np.testing.assert_allclose([found.mean[0], found.std[0]], [2.0, 1.0])


def test_unstandardize_is_the_inverse_of_standardize():
    statistics = EmbeddingStatistics(mean=np.float32([1.0, -2.0]), std=np.float32([2.0, 0.5]))
    np.testing.assert_allclose(statistics.standardize(np.float32([[3.0, -2.0]])), [[1.0, 0.0]])
    np.testing.assert_allclose(statistics.unstandardize(np.float32([[1.0, 0.0]])), [[3.0, -2.0]])


def test_extras_have_the_declared_shapes():
    import jax

    statistics = EmbeddingStatistics(mean=np.zeros(3, np.float32), std=np.ones(3, np.float32))
    again = EmbeddingStatistics.from_extras(statistics.to_extras())
    np.testing.assert_array_equal(again.std, statistics.std)
    expected = embedding_statistics.shapes(3)
    assert jax.tree.structure(expected) == jax.tree.structure(statistics.to_extras())
    assert {leaf.shape for leaf in jax.tree.leaves(expected)} == {(3,)}
