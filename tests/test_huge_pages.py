"""The command asks for huge pages where Linux gives them to those who ask, once, and nowhere else."""

import os
import subprocess
import sys

import pytest

from unclip_jax import huge_pages

ASKS = "glibc.malloc.hugetlb=1"
PROGRAM = """
import os, pathlib, sys
from unclip_jax.huge_pages import begin_anew
print("begins", flush=True)
begin_anew(pathlib.Path(sys.argv[1]))
print(os.environ.get("GLIBC_TUNABLES"), sys.argv[1:])
"""


@pytest.mark.parametrize(
    ("tunables", "asking"),
    [
        (None, ASKS),
        ("", ASKS),
        ("glibc.malloc.check=1", f"glibc.malloc.check=1:{ASKS}"),
        ("glibc.malloc.hugetlb=0", "glibc.malloc.hugetlb=0"),  # somebody does not want them
    ],
)
def test_asking_leaves_the_rest_as_it_is(tunables, asking):
    environment = {"HOME": "/root"} | ({} if tunables is None else {"GLIBC_TUNABLES": tunables})
    assert huge_pages.asking(environment) == {"HOME": "/root", "GLIBC_TUNABLES": asking}
    assert not huge_pages.asks(environment)
    assert huge_pages.asks({"GLIBC_TUNABLES": asking}) == (asking != tunables)


@pytest.mark.parametrize(
    ("content", "mode"),
    [("always [madvise] never\n", "madvise"), ("[always] madvise never\n", "always"), (None, "never")],
)
def test_a_process_begins_anew_only_where_it_has_to_ask(tmp_path, content, mode):
    switch = tmp_path / "enabled"
    if content:
        switch.write_text(content)
    assert huge_pages.mode(switch) == mode
    given = {name: value for name, value in os.environ.items() if name != "GLIBC_TUNABLES"}
    command = [sys.executable, "-c", PROGRAM, str(switch), "a b"]
    printed = subprocess.run(command, env=given, capture_output=True, text=True, check=True).stdout
    again = mode == "madvise"
    assert printed == "begins\n" * (1 + again) + f"{ASKS if again else None} {[str(switch), 'a b']}\n"


@pytest.mark.skipif(huge_pages.mode() != "madvise", reason="Linux gives huge pages to all or to none here")
@pytest.mark.parametrize("command", [["-m", "unclip_jax"], [os.path.join(os.path.dirname(sys.executable), "unclip")]])
def test_the_command_asks(command):
    given = {name: value for name, value in os.environ.items() if name != "GLIBC_TUNABLES"}
    done = subprocess.run([sys.executable, *command, "doctor"], env=given, capture_output=True, text=True, check=True)
    assert "huge pages: madvise, asked for\n" in done.stdout
