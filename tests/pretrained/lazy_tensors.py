"""Lazy tensors of arrays in memory."""

from unclip_jax.pretrained.lazy_tensor import LazyTensor


def lazy_tensors(arrays):
    """Returns arrays by name in the form in which `open_tensors` returns the tensors of a file."""
    return {name: LazyTensor(array.shape, array.dtype, lambda array=array: array) for name, array in arrays.items()}
