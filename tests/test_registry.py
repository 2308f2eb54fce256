"""Registries, also with entry points of a small distribution on sys.path."""

import importlib
import importlib.metadata
import itertools
import types

import pytest

from tests.distributions import write_distribution
from unclip_jax.registry import Registry

NUMBERS = itertools.count()


@pytest.fixture
def distribution(tmp_path, monkeypatch):
    """Returns a function that installs `fake-colors` with entry points and returns its module name and group."""
    number = next(NUMBERS)
    module, group = f"fake_colors_{number}", f"tests.colors_{number}"

    def install(*entry_points: str) -> tuple[str, str]:
        modules = {
            module: (
                "import types\nred = {'name': 'crimson'}\ngreen = {'name': 'lime'}\n"
                "typed = types.SimpleNamespace(name='crimson')\n"
            ),
            f"{module}_broken": "raise RuntimeError('first\\nsecond')\n",
        }
        lines = [line.format(module=module) for line in entry_points]
        write_distribution(tmp_path, "fake-colors", {group: lines}, **modules)
        monkeypatch.syspath_prepend(tmp_path)
        return module, group

    return install


def test_choose_returns_entry():
    colors = Registry("color", "tests.nothing", {"blue": 1, "black": 2})
    assert colors.choose("black") == 2
    assert "blue" in colors and "red" not in colors and ["blue"] not in colors
    assert colors.names() == list(colors) == ["blue", "black"]
    assert colors.items() == [("blue", 1), ("black", 2)]


@pytest.mark.parametrize(
    ("where", "message"),
    [
        (None, "Unknown color 'red'. Available: blue, black."),
        ("cascade.json", "Unknown color 'red' in cascade.json. Available: blue, black."),
    ],
)
def test_choose_rejects_unknown_name(where, message):
    with pytest.raises(ValueError) as error:
        Registry("color", "tests.nothing", {"blue": 1, "black": 2}).choose("red", where)
    assert str(error.value) == message


@pytest.mark.parametrize("name", [None, 3, ["blue"]])
def test_choose_rejects_value_that_is_not_a_string(name):
    with pytest.raises(ValueError, match="Unknown color .* Available: blue."):
        Registry("color", "tests.nothing", {"blue": 1}).choose(name)


def test_register_adds_entry_once():
    entry, colors = object(), Registry("color", "tests.nothing", {"blue": 1})
    colors.register("red", entry)
    colors.register("red", entry)
    assert colors.choose("red") is entry
    assert colors.names() == ["blue", "red"]
    with pytest.raises(ValueError, match="Another color is already registered as 'blue'"):
        colors.register("blue", 2)
    assert colors.choose("blue") == 1


def test_registries_do_not_share_entries():
    builtin = {"blue": 1}
    Registry("color", "tests.nothing", builtin).register("red", 2)
    assert builtin == {"blue": 1} and "red" not in Registry("color", "tests.nothing", builtin)


def test_entry_points_are_loaded_once_when_name_is_unknown(distribution, monkeypatch):
    module, group = distribution("red = {module}:red", "green = {module}:green")
    colors = Registry("color", group, {"blue": 1})
    calls, entry_points = [], importlib.metadata.entry_points
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda **k: calls.append(k) or entry_points(**k))
    assert colors.choose("blue") == 1 and "blue" in colors
    assert calls == []
    assert colors.choose("red") is importlib.import_module(module).red
    assert colors.names() == ["blue", "green", "red"]
    with pytest.raises(ValueError, match="Available: blue, green, red"):
        colors.choose("gray")
    assert calls == [{"group": group}]


def test_entries_yields_entry_points_last(distribution, monkeypatch):
    module, group = distribution("red = {module}:red", "broken = {module}:missing")
    colors = Registry("color", group, {"blue": 1})
    colors.register("black", 2)
    calls, entry_points = [], importlib.metadata.entry_points
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda **k: calls.append(k) or entry_points(**k))
    entries = colors.entries()
    assert [next(entries), next(entries)] == [1, 2] and calls == []
    red = next(entries)
    assert red is importlib.import_module(module).red and calls == [{"group": group}]
    assert list(entries) == [] and list(colors.entries()) == [1, 2, red]


def test_failures_lists_broken_entry_points(distribution):
    module, group = distribution("a = {module}_broken:red", "red = {module}:red")
    (line,) = Registry("color", group).failures()
    assert line == "Entry point 'a' of fake-colors failed to load: RuntimeError: first second"


@pytest.mark.parametrize("list_names", [Registry.names, list, lambda colors: [name for name, _ in colors.items()]])
def test_listing_names_loads_entry_points(distribution, list_names):
    _, group = distribution("red = {module}:red")
    assert list_names(Registry("color", group, {"blue": 1})) == ["blue", "red"]


def test_entries_of_a_type_have_names_of_their_own(distribution):
    module, group = distribution("red = {module}:typed")
    colors = Registry("color", group, entry_type=types.SimpleNamespace)
    assert colors.choose("crimson") is importlib.import_module(module).typed
    assert "red" not in colors
    with pytest.raises(ValueError, match="^The color 'lime' must be registered by its own name, got 'green'.$"):
        colors.register("green", types.SimpleNamespace(name="lime"))


def test_entry_of_another_type_is_refused(distribution):
    _, group = distribution("red = {module}:red")
    colors = Registry("color", group, entry_type=types.SimpleNamespace)
    message = "A color must be a SimpleNamespace, got a dict."
    with pytest.raises(ValueError, match=f"^{message}$"):
        colors.register("crimson", {"name": "crimson"})
    (failure,) = colors.failures()
    assert failure == f"Entry point 'red' of fake-colors failed to load: ValueError: {message}".rstrip(".")
    assert colors.names() == []


def test_broken_entry_points_are_reported_only_when_name_is_unknown(distribution):
    _, group = distribution(
        "a = {module}_broken:red", "b = {module}:missing", "blue = {module}:green", "red = {module}:red"
    )
    colors = Registry("color", group, {"blue": 1})
    assert colors.choose("red") == {"name": "crimson"}
    assert colors.choose("blue") == 1
    with pytest.raises(ValueError) as error:
        colors.choose("gray")
    assert str(error.value).startswith(
        "Unknown color 'gray'. Available: blue, red. "
        "Entry point 'a' of fake-colors failed to load: RuntimeError: first second. "
        "Entry point 'b' of fake-colors failed to load: AttributeError: "
    )
    assert str(error.value).endswith(
        "Entry point 'blue' of fake-colors failed to load: ValueError: Another color is already registered as 'blue'."
    )
    assert "\n" not in str(error.value)
