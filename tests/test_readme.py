"""What README.md shows is true: its Python runs as it stands, and the files and commands that it names exist."""

import pathlib
import re

import numpy as np
import pytest

from unclip_jax.__main__ import COMMANDS, main

ROOT = pathlib.Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
EXAMPLES = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)


def test_every_file_that_is_linked_exists():
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", README) if "://" not in link]
    assert "configs/shapes/README.md" in links
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_every_command_is_named_and_every_named_one_exists():
    assert set(re.findall(r"unclip ([a-z-]+)[ `]", README)) == set(COMMANDS)


def test_the_bundled_cascade_is_exported_with_the_call_that_is_shown(tmp_path, capsys):
    assert main(["export-weights", "shapes", "--format", "diffusers", "--out", str(tmp_path / "out")]) == 0
    assert EXAMPLES[1].replace("runs/diffusers", str(tmp_path / "out")) in capsys.readouterr().out


@pytest.mark.slow
def test_the_library_example_runs():
    names = {}
    exec(EXAMPLES[0], names)
    assert names["images"].shape == (4, 256, 256, 3) and names["images"].dtype == np.uint8
    assert names["embeddings"].shape == (4, 128)
