import pytest

from tests.cascades.tiny import write_tiny_cascade


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    return write_tiny_cascade(tmp_path_factory.mktemp("tiny") / "cascade")
