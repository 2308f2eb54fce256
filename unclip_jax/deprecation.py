"""Warnings of names that are accepted for one more release."""

import warnings


def warn_renamed(old: str, new: str, *, where: str) -> None:
    """Warns that a name has changed.

    The warning is issued as if the user's own program had caused it: by default, Python shows no other deprecation
    warnings.

    Args:
      old, new: The names, such as "config.sampling.scale".
      where: What stands for the file of the warning, such as "config".
    """
    message = f"{old} is now called {new}."
    warnings.warn_explicit(message, DeprecationWarning, filename=where, lineno=1, module="__main__")
