"""Fixtures: a tiny cascade folder, and registries that are restored after a test."""

import pathlib
import shutil

import pytest

from tests.cascades import tiny
from unclip_jax.diffusion.samplers import SAMPLERS
from unclip_jax.evaluation.suites import SUITES
from unclip_jax.kinds import KINDS
from unclip_jax.pretrained.registry import FAMILIES


@pytest.fixture
def tables(monkeypatch):
    """Restores the registries after a test."""
    for table in (KINDS, SAMPLERS, SUITES, FAMILIES):
        for name in ("_entries", "_failures"):
            monkeypatch.setattr(table, name, getattr(table, name).copy())
        monkeypatch.setattr(table, "_loaded", False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny.write_tiny_cascade(tmp_path_factory.mktemp("tiny") / "cascade")


@pytest.fixture
def copy(folder, tmp_path):
    """Returns a copy of the cascade folder that a test may change."""
    return pathlib.Path(shutil.copytree(folder, tmp_path / "copy"))
