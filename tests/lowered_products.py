"""The products in a program's text."""

import re


def products(text):
    """The types of the first two operands of every product and convolution, of `jax.jit(f).lower(...).as_text()`."""
    pattern = r"stablehlo\.(?:dot_general|convolution)\b.*?: \(tensor<[0-9x]*x(\w+)>, tensor<[0-9x]*x(\w+)>\)"
    return re.findall(pattern, text)
