"""The type in which networks compute. Norms, softmax, losses and schedules are float32 whatever it is, and so are
parameters that are trained.
"""

from typing import Any

import jax.numpy as jnp

DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}
AUTO = "auto"


def compute_dtype(name: str, platform: str) -> Any:
    """The type of that name, "auto" being bfloat16 on TPU and GPU, and float32 on a CPU, which is slower in bfloat16.

    Args: platform: of the devices that compute, such as `jax.devices()[0].platform`.
    Raises ValueError for an unknown name.
    """
    if name == AUTO:
        name = "float32" if platform == "cpu" else "bfloat16"
    if name not in DTYPES:
        raise ValueError(f"dtype {name!r} is unknown; known: {', '.join((AUTO, *DTYPES))}")
    return DTYPES[name]


def parameter_dtype(name: str, dtype: Any) -> Any:
    """The type of the parameter of that name (see `parameters`) where nothing is trained and networks compute in
    `dtype`: so are kernels and embeddings. Norms, biases and other vectors stay float32: they are a thousandth of the
    bytes, and much of them goes into what is computed in float32.
    """
    return dtype if name.endswith(("kernel", "embedding")) else jnp.float32
