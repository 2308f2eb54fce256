"""The command requests huge pages if Linux grants them on request, and re-executes itself once."""

import os
import subprocess
import sys

import pytest

from unclip_jax import huge_pages

ENABLED = "glibc.malloc.hugetlb=1"
PROGRAM = """
import os, pathlib, sys
from unclip_jax.huge_pages import begin_anew
print("starts", flush=True)
begin_anew(pathlib.Path(sys.argv[1]))
print(os.environ.get("GLIBC_TUNABLES"), sys.argv[1:])
"""


@pytest.mark.parametrize(
    ("tunables", "asking"),
    [
        (None, ENABLED),
        ("", ENABLED),
        ("glibc.malloc.check=1", f"glibc.malloc.check=1:{ENABLED}"),
        ("glibc.malloc.hugetlb=0", "glibc.malloc.hugetlb=0"),  # disabled by the user
    ],
)
def test_asking_keeps_other_tunables(tunables, asking):
    environment = {"HOME": "/root"} | ({} if tunables is None else {"GLIBC_TUNABLES": tunables})
    assert huge_pages.asking(environment) == {"HOME": "/root", "GLIBC_TUNABLES": asking}
    assert not huge_pages.asks(environment)
    assert huge_pages.asks({"GLIBC_TUNABLES": asking}) == (asking != tunables)


@pytest.mark.parametrize(
    ("content", "mode"),
    [("always [madvise] never\n", "madvise"), ("[always] madvise never\n", "always"), (None, "never")],
)
def test_begin_anew_restarts_only_if_huge_pages_must_be_requested(tmp_path, content, mode):
    switch = tmp_path / "enabled"
    if content:
        switch.write_text(content)
    assert huge_pages.mode(switch) == mode
    environment = {name: value for name, value in os.environ.items() if name != "GLIBC_TUNABLES"}
    command = [sys.executable, "-c", PROGRAM, str(switch), "a b"]
    printed = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    again = mode == "madvise"
    assert printed == "starts\n" * (1 + again) + f"{ENABLED if again else None} {[str(switch), 'a b']}\n"


@pytest.mark.skipif(huge_pages.mode() != "madvise", reason="Linux does not grant huge pages on request here")
@pytest.mark.parametrize("command", [["-m", "unclip_jax"], [os.path.join(os.path.dirname(sys.executable), "unclip")]])
def test_unclip_command_requests_huge_pages(command):
    environment = {name: value for name, value in os.environ.items() if name != "GLIBC_TUNABLES"}
    done = subprocess.run(
        [sys.executable, *command, "doctor"], env=environment, capture_output=True, text=True, check=True
    )
    assert "huge pages: madvise, requested\n" in done.stdout
