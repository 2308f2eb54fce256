"""What README.md names exists: files and commands."""

import pathlib
import re

from unclip_jax.__main__ import COMMANDS

ROOT = pathlib.Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def test_every_file_that_is_linked_exists():
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", README) if "://" not in link]
    assert "configs/shapes/README.md" in links
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_every_command_is_named_and_every_named_one_exists():
    assert set(re.findall(r"unclip ([a-z-]+)[ `]", README)) == set(COMMANDS)
