"""Runs the code examples of a README."""

import pathlib
import re
from typing import Any

ROOT = pathlib.Path(__file__).parents[1]


def examples(path: str) -> dict[str, str]:
    """Returns the Python blocks of a README by the nearest heading above them."""
    found: dict[str, str] = {}
    title = ""
    # Code is matched as a whole, so that its comments are not taken for headings.
    for block in re.finditer(r"```(\w*)\n(.*?)```|^#+ ([^\n]*)$", (ROOT / path).read_text(), re.DOTALL | re.MULTILINE):
        language, code, heading = block.groups()
        if heading is not None:
            title = heading
        elif language == "python":
            assert title not in found, f"two examples under {title!r}"
            found[title] = code
    return found


def run(code: str, replaced: dict[str, str] | None = None) -> dict[str, Any]:
    """Runs an example, after text replacements, and returns its global variables."""
    for old, new in (replaced or {}).items():
        assert old in code
        code = code.replace(old, new)
    names: dict[str, Any] = {}
    exec(compile(code, "README.md", "exec"), names)
    return names
