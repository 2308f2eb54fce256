"""Metadata of the package: version, repository and citation."""

import re

import pytest
import setuptools

from tests.readme_examples import ROOT
from unclip_jax import __version__

CITATION = (ROOT / "CITATION.cff").read_text()
SETUP = (ROOT / "setup.py").read_text()
ADDRESS = "https://example.org/unclip_jax"


def setup_arguments(monkeypatch, repository: str | None) -> dict:
    """Returns the arguments that setup.py passes to `setup` if its owner has set the repository."""
    captured = {}
    monkeypatch.setattr(setuptools, "setup", lambda **arguments: captured.update(arguments))
    source = re.sub(r"^REPOSITORY = .*$", f"REPOSITORY = {repository!r}", SETUP, flags=re.MULTILINE)
    exec(compile(source, "setup.py", "exec"), {"__file__": str(ROOT / "setup.py"), "__name__": "setup"})
    return captured


def test_without_a_repository_links_stay_relative(monkeypatch):
    arguments = setup_arguments(monkeypatch, None)
    assert arguments["long_description"] == (ROOT / "README.md").read_text() and arguments["project_urls"] == {}


def test_with_a_repository_links_and_images_are_absolute(monkeypatch):
    arguments = setup_arguments(monkeypatch, ADDRESS)
    text = arguments["long_description"]
    assert f"({ADDRESS}/raw/main/configs/shapes/samples.png)" in text
    assert f"[launch/README.md]({ADDRESS}/blob/main/launch/README.md)" in text
    assert text.splitlines()[2].startswith("[![License](https://img.shields.io/")
    links = re.findall(r"\]\(([^)]+)\)", text)
    assert [link for link in links if not link.startswith("https://")] == []
    assert arguments["project_urls"] == {"Source": ADDRESS}


def test_citation_has_the_version_and_repository_of_the_package():
    assert re.search(r"^version: (.+)$", CITATION, re.MULTILINE)[1] == __version__
    repository = re.search(r"^REPOSITORY = (.+)$", SETUP, re.MULTILINE)[1].strip('"')
    found = re.search(r"^repository-code: (.+)$", CITATION, re.MULTILINE)
    assert (found and found[1].strip('"')) == (None if repository == "None" else repository)


def test_changelog_describes_the_version():
    assert f"\n## {__version__}" in (ROOT / "CHANGELOG.md").read_text()


@pytest.mark.parametrize("name", ["text_to_image", "load_cascade"])
def test_public_names_are_those_of_their_modules(name):
    import unclip_jax

    assert set(unclip_jax.__all__) == set(unclip_jax._MODULE_OF)
    assert getattr(unclip_jax, name).__module__ == unclip_jax._MODULE_OF[name]
