"""README.md: its Python examples run, and its links and commands exist."""

import pathlib
import re

import numpy as np
import pytest

from unclip_jax.__main__ import COMMANDS, main

ROOT = pathlib.Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
EXAMPLES = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)


def test_linked_files_exist():
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", README) if "://" not in link]
    assert "configs/shapes/README.md" in links
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_readme_lists_exactly_the_existing_commands():
    assert set(re.findall(r"unclip ([a-z-]+)[ `]", README)) == set(COMMANDS)


def test_export_prints_the_call_shown_in_the_readme(tmp_path, capsys):
    assert main(["export-weights", "shapes", "--format", "diffusers", "--out", str(tmp_path / "out")]) == 0
    assert EXAMPLES[1].replace("runs/diffusers", str(tmp_path / "out")) in capsys.readouterr().out


@pytest.mark.slow
def test_library_example_runs():
    names = {}
    exec(EXAMPLES[0], names)
    assert names["images"].shape == (4, 256, 256, 3) and names["images"].dtype == np.uint8
    assert names["embeddings"].shape == (4, 128)
