"""Warnings about renamed settings, whose old names are accepted for one more release."""

import warnings


def warn_renamed(old: str, new: str, *, where: str) -> None:
    """Issues a DeprecationWarning for a renamed setting.

    The warning is attributed to `__main__`, because Python hides deprecation warnings from other modules by default.

    Args:
      old: The old name, such as "config.sampling.scale".
      new: The new name.
      where: Text shown as the file name of the warning, such as "config".
    """
    message = f"{old} is now called {new}."
    warnings.warn_explicit(message, DeprecationWarning, filename=where, lineno=1, module="__main__")
