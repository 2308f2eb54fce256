"""Huge pages (2 MiB) for CPU memory on Linux.

XLA allocates its working memory again for every call, and Linux zeroes each page when it is first touched. With pages
of 4 KiB this takes a quarter of the time of a training step. If Linux grants huge pages only on request ("madvise"),
glibc requests them if its tunable is set when the process starts. Setting it later has no effect.
"""

import os
import pathlib
import sys
from collections.abc import Mapping

TUNABLE = "glibc.malloc.hugetlb"
SWITCH = pathlib.Path("/sys/kernel/mm/transparent_hugepage/enabled")


def mode(switch: pathlib.Path = SWITCH) -> str:
    """Returns when Linux grants huge pages: "always", "madvise" (on request) or "never".

    Args:
      switch: File with the setting. If it cannot be read, as on other systems, the result is "never".
    """
    try:
        return switch.read_text().partition("[")[2].partition("]")[0]
    except OSError:
        return "never"


def asks(environment: Mapping[str, str]) -> bool:
    """Returns whether a process with this environment requests huge pages: the tunable is set and not 0."""
    tunables = environment.get("GLIBC_TUNABLES", "")
    return TUNABLE in tunables and f"{TUNABLE}=0" not in tunables


def asking(environment: Mapping[str, str]) -> dict[str, str]:
    """Returns `environment` with the tunable set to 1, unless it already has a value."""
    tunables = environment.get("GLIBC_TUNABLES", "")
    if TUNABLE in tunables:
        return dict(environment)
    return {**environment, "GLIBC_TUNABLES": f"{tunables}:{TUNABLE}=1".lstrip(":")}


def begin_anew(switch: pathlib.Path = SWITCH) -> None:
    """Re-executes the current process with huge pages enabled, if they are available but not enabled.

    The arguments and the process ID stay the same. If the environment already sets the tunable, or if Linux does not
    grant huge pages on request, the function returns. Call it first, since everything done before is repeated.

    Args:
      switch: File with the setting of Linux (see `mode`).
    """
    environment = asking(os.environ)
    if mode(switch) == "madvise" and environment != os.environ:
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)
