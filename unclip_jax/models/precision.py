"""Compute dtype of networks, and dtype of their parameters at inference.

Norms, softmax, losses, schedules and trained parameters are float32 for any compute dtype.
"""

from typing import Any

import jax.numpy as jnp

from unclip_jax.errors import unknown

DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}
AUTO = "auto"


def compute_dtype(name: str, platform: str) -> Any:
    """Returns the compute dtype for a name.

    Args:
      name: "float32", "bfloat16" or "auto". "auto" is bfloat16 on TPU and GPU, and float32 on CPU, where bfloat16 is
        slower.
      platform: Platform of the devices, such as `jax.devices()[0].platform`.

    Raises:
      ValueError: If the name is unknown.
    """
    if name == AUTO:
        name = "float32" if platform == "cpu" else "bfloat16"
    if name not in DTYPES:
        raise unknown("dtype", name, ", ".join((AUTO, *DTYPES)))
    return DTYPES[name]


def parameter_dtype(name: str, dtype: Any) -> Any:
    """Returns the dtype of a parameter at inference.

    Kernels and embeddings have the compute dtype. Norms, biases and other vectors stay float32. They make up a
    thousandth of the bytes, and many of them are used in float32 computations.

    Args:
      name: Name of the parameter (see `parameters`).
      dtype: Compute dtype of the network.
    """
    return dtype if name.endswith(("kernel", "embedding")) else jnp.float32
