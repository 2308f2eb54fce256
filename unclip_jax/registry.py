"""Registries: tables of named entries that other packages can extend through entry points."""

import importlib.metadata
from collections.abc import Iterator, Mapping
from typing import Generic, TypeVar

from unclip_jax.errors import unknown

T = TypeVar("T")


class Registry(Generic[T]):
    """A table of named entries.

    Other packages add entries by calling `register` or by declaring entry points of the registry's group, each of which
    refers to an entry. All entry points of the group are loaded once, when a name is unknown or the names are listed.
    Existing entries take precedence over entry points.

    Args:
      what: Noun for an entry in messages, such as "sampler".
      group: Entry-point group, such as "unclip_jax.samplers".
      entries: The built-in entries by name.
      entry_type: Class of the entries, whose attribute `name` is the name of an entry. If None, entries can be any
        objects, and those of entry points have the names of the entry points.
    """

    def __init__(self, what: str, group: str, entries: Mapping[str, T] = {}, *, entry_type: type[T] | None = None):
        self._what = what
        self._group = group
        self._entries = dict(entries)
        self._entry_type = entry_type
        self._failures: list[str] = []
        self._loaded = False

    def register(self, name: str, entry: T) -> None:
        """Adds an entry.

        Args:
          name: Name of the entry.
          entry: The entry. Registering the same object again has no effect.

        Raises:
          ValueError: If `name` belongs to a different entry, or if the entry has another name or type.
        """
        self._check_type(entry)
        if self._entry_type is not None and entry.name != name:
            raise ValueError(f"The {self._what} {entry.name!r} must be registered by its own name, got {name!r}.")
        if self._entries.get(name, entry) is not entry:
            raise ValueError(f"Another {self._what} is already registered as {name!r}.")
        self._entries[name] = entry

    def choose(self, name: str, where: str | None = None) -> T:
        """Returns the entry with a name.

        Args:
          name: The name.
          where: The file or setting that contains the name, for the error message. If None, it is not mentioned.

        Raises:
          ValueError: If the name is unknown. The message lists the available names and the entry points that failed to
            load.
        """
        if name not in self:
            raise unknown(self._what, name, self.available(), where=where)
        return self._entries[name]

    def find(self, name: object) -> T | None:
        """Returns the entry with a name, or None if the name is unknown."""
        return self._entries[name] if name in self else None

    def available(self) -> str:
        """Returns the known names and the entry points that failed to load as one line, for error messages."""
        return ". ".join([", ".join(self.names()), *self.failures()])

    def failures(self) -> list[str]:
        """Returns an error message for every entry point that failed to load."""
        self._load_entry_points()
        return list(self._failures)

    def entries(self) -> Iterator[T]:
        """Yields the entries in order of registration.

        Entry points are loaded only after all existing entries have been yielded.
        """
        known = dict(self._entries)
        yield from known.values()
        yield from (entry for name, entry in self.items() if name not in known)

    def names(self) -> list[str]:
        """Returns the known names, in order of registration."""
        self._load_entry_points()
        return list(self._entries)

    def items(self) -> list[tuple[str, T]]:
        """Returns the known names with their entries, in order of registration."""
        self._load_entry_points()
        return list(self._entries.items())

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())

    def __contains__(self, name: object) -> bool:
        if not isinstance(name, str):
            return False
        return name in self._entries or name in self.names()

    def _check_type(self, entry: object) -> None:
        if self._entry_type is not None and not isinstance(entry, self._entry_type):
            raise ValueError(f"A {self._what} must be a {self._entry_type.__name__}, got a {type(entry).__name__}.")

    def _load_entry_points(self) -> None:
        if self._loaded:
            return
        self._loaded = True
        for point in sorted(importlib.metadata.entry_points(group=self._group), key=lambda point: point.name):
            try:
                entry = point.load()
                self._check_type(entry)
                self.register(point.name if self._entry_type is None else entry.name, entry)
            except Exception as error:  # a broken package must not make the other entries unavailable
                cause = " ".join(f"{type(error).__name__}: {error}".split()).rstrip(".")
                package = "an unknown package" if point.dist is None else point.dist.name
                self._failures.append(f"Entry point {point.name!r} of {package} failed to load: {cause}")
