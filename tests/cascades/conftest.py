import jax
import pytest

from tests.cascades.tiny import write_tiny_cascade
from unclip_jax.cascades.loading import load_cascade


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    return write_tiny_cascade(tmp_path_factory.mktemp("tiny") / "cascade")


@pytest.fixture(scope="session")
def cascade(folder):
    """Returns the tiny cascade on one device."""
    return load_cascade(folder, devices=jax.local_devices()[:1])
