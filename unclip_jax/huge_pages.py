"""Memory in pages of 2 MiB, for CPUs.

XLA takes its working memory anew for every call, and Linux hands memory out page by page, each zeroed when it is first
touched. In pages of 4 KiB that is a quarter of the time of a training step. Where Linux gives huge pages to those who
ask ("madvise"), glibc asks if its tunable says so when the process starts, and at no later time.
"""

import os
import pathlib
import sys
from collections.abc import Mapping

TUNABLE = "glibc.malloc.hugetlb"
SWITCH = pathlib.Path("/sys/kernel/mm/transparent_hugepage/enabled")


def mode(switch: pathlib.Path = SWITCH) -> str:
    """Whom Linux gives huge pages: "always", "madvise" (to those who ask) or "never"; also "never" where there is no
    such switch, as on other systems."""
    try:
        return switch.read_text().partition("[")[2].partition("]")[0]
    except OSError:
        return "never"


def asks(environment: Mapping[str, str]) -> bool:
    """Whether a process of this environment asks: the tunable is set, and not to 0."""
    tunables = environment.get("GLIBC_TUNABLES", "")
    return TUNABLE in tunables and f"{TUNABLE}=0" not in tunables


def asking(environment: Mapping[str, str]) -> dict[str, str]:
    """`environment` with the tunable set for a process that is to ask; one that is set already is left as it is."""
    tunables = environment.get("GLIBC_TUNABLES", "")
    if TUNABLE in tunables:
        return dict(environment)
    return {**environment, "GLIBC_TUNABLES": f"{tunables}:{TUNABLE}=1".lstrip(":")}


def begin_anew(switch: pathlib.Path = SWITCH) -> None:
    """Starts this process once more, with the same arguments and number, if it has to ask for huge pages and did not.
    Returns where there is nothing to gain. To be called before anything is done."""
    environment = asking(os.environ)
    if mode(switch) == "madvise" and environment != os.environ:
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)
