"""Matrix products in lowered programs."""

import re


def products(text):
    """Returns the operand types of every product and convolution in `jax.jit(f).lower(...).as_text()`."""
    pattern = r"stablehlo\.(?:dot_general|convolution)\b.*?: \(tensor<[0-9x]*x(\w+)>, tensor<[0-9x]*x(\w+)>\)"
    return re.findall(pattern, text)
