"""Style of the code: the rules and the formatter of Ruff, as set in pyproject.toml. Needs the extra `lint`."""

import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]


@pytest.mark.slow
@pytest.mark.parametrize("command", [["check"], ["format", "--check"]])
def test_ruff_has_no_findings(command):
    done = subprocess.run(
        [sys.executable, "-m", "ruff", *command, "."], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
