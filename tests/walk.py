"""Recording of the files that a command enters, in order.

A file is entered when one of its functions is called. Importing it does not count.
"""

import contextlib
import importlib
import inspect
import pathlib
import pkgutil
import sys
import threading
from collections.abc import Iterator, Sequence

import jax

import unclip_jax
from tests.test_layering import FLOOR_OF
from unclip_jax.__main__ import main
from unclip_jax.sampling import diffusion

PACKAGE = pathlib.Path(unclip_jax.__file__).parent


@contextlib.contextmanager
def recorded() -> Iterator[dict[str, None]]:
    """Yields the files whose functions are called in the block, in the order of the first call.

    All threads are recorded.
    """
    files: dict[str, None] = {}

    def profile(frame, event, argument):
        code = frame.f_code
        is_function = code.co_flags & inspect.CO_OPTIMIZED  # False for modules and class bodies
        if event == "call" and is_function and code.co_filename.startswith(f"{PACKAGE}/"):
            files.setdefault(pathlib.Path(code.co_filename).relative_to(PACKAGE).with_suffix("").as_posix())

    threading.setprofile(profile)
    sys.setprofile(profile)
    try:
        yield files
    finally:
        sys.setprofile(None)
        threading.setprofile(None)


def floor_of(file: str) -> int:
    return FLOOR_OF[file.split("/")[0]]


def walk(arguments: Sequence[str]) -> list[str]:
    """Runs a command and returns the files that it enters.

    Compiled programs and public names are removed from their caches first, because cached ones would skip files.
    """
    for module in pkgutil.walk_packages(unclip_jax.__path__, "unclip_jax."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    for name in unclip_jax.__all__:
        vars(unclip_jax).pop(name, None)  # public names are imported on first access
    jax.clear_caches()
    diffusion._compiled.cache_clear()
    with recorded() as files:
        code = main(list(arguments))
    assert code == 0
    print("\n" + "\n".join(f"floor {floor_of(file)}  {file}" for file in files))
    return list(files)
