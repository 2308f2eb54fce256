"""Installation of small distributions with entry points."""

import importlib
import pathlib
from collections.abc import Mapping, Sequence


def write_distribution(
    site: pathlib.Path,
    name: str,
    entry_points: Mapping[str, Sequence[str]],
    *,
    copied: Sequence[pathlib.Path | str] = (),
    **modules: str,
) -> None:
    """Installs a distribution in a folder. Its entry points are found if the folder is on sys.path.

    Args:
      site: The folder.
      name: Name of the distribution, with hyphens.
      entry_points: Lines such as "red = colors:red" by group.
      copied: Files to copy as top-level modules.
      **modules: Source code of further modules by name.
    """
    site.mkdir(exist_ok=True)
    for path in map(pathlib.Path, copied):
        (site / path.name).write_text(path.read_text())
    for module, source in modules.items():
        (site / f"{module}.py").write_text(source)
    info = site / f"{name.replace('-', '_')}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    sections = ("\n".join([f"[{group}]", *lines, ""]) for group, lines in entry_points.items())
    (info / "entry_points.txt").write_text("".join(sections))
    importlib.invalidate_caches()
