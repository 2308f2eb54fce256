"""Test environment: eight simulated CPU devices, a shared compilation cache and no network.

It must be set before jax is imported. Processes that a test starts inherit the environment variables, but not the eight
devices. They need `jax.config.update("jax_num_cpu_devices", 8)` or JAX_NUM_CPU_DEVICES.
"""

import collections
import contextlib
import os
import pathlib
import platform
import resource
import shutil
import sys
import tempfile

import pytest

CACHE_LIMIT = 2 * 1024**3  # bytes; a larger cache is deleted
COMPILATIONS = pathlib.Path(
    os.environ.get("JAX_COMPILATION_CACHE_DIR")
    or pathlib.Path.home() / ".cache" / f"unclip_jax-tests-{platform.machine()}"
)
# Cache folder of the package, such as for prepared data. It is deleted at the end of the test process.
USER_CACHE = tempfile.mkdtemp(prefix="unclip_jax-tests-")

os.environ.update(
    JAX_PLATFORMS="cpu",
    JAX_COMPILATION_CACHE_DIR=str(COMPILATIONS),
    # Cache all programs: tests compile thousands of small ones, and loading is always faster than compiling.
    JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS="0",
    JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES="-1",
    # By default XLA uses one CPU thread per device. A device that waits in a collective blocks its thread, and matrix
    # products use the same threads: with eight devices, seven can wait while the eighth has no thread for its product,
    # and XLA aborts the process after 40 s.
    PJRT_NPROC="32",
    HF_HUB_OFFLINE="1",
    TRANSFORMERS_NO_ADVISORY_WARNINGS="1",
    UNCLIP_CACHE=USER_CACHE,
)
assert "jax" not in sys.modules, "jax must not be imported before tests/conftest.py configures its devices."

import jax  # noqa: E402
from jax.experimental.compilation_cache.compilation_cache import reset_cache  # noqa: E402

jax.config.update("jax_num_cpu_devices", 8)


def pytest_addoption(parser) -> None:
    parser.addoption(
        "--durations-by-folder", action="store_true", help="print how long the tests of each folder took, in seconds"
    )


def pytest_terminal_summary(terminalreporter, config) -> None:
    """Prints the sum of setup, call and teardown of the tests in each folder, the longest first."""
    if not config.getoption("--durations-by-folder"):
        return
    reports = [report for group in terminalreporter.stats.values() for report in group if hasattr(report, "duration")]
    sums = collections.Counter()
    for report in reports:
        sums[str(pathlib.PurePosixPath(report.nodeid.partition("::")[0]).parent)] += report.duration
    terminalreporter.section("durations by folder")
    for folder, seconds in sums.most_common():
        terminalreporter.line(f"{seconds:8.1f} s  {folder}")
    terminalreporter.line(f"{sums.total():8.1f} s  in total")


def pytest_configure(config) -> None:
    """Deletes a compilation cache that is too large, once per run and before workers start."""
    if hasattr(config, "workerinput") or not COMPILATIONS.is_dir():
        return
    if sum(entry.stat().st_size for entry in os.scandir(COMPILATIONS) if entry.is_file()) > CACHE_LIMIT:
        shutil.rmtree(COMPILATIONS, ignore_errors=True)


def pytest_unconfigure() -> None:
    shutil.rmtree(USER_CACHE, ignore_errors=True)


@pytest.fixture(scope="module", autouse=True)
def compilations_kept():
    """Enables the compilation cache again after a module that disabled it to train on several devices."""
    yield
    if not jax.config.jax_enable_compilation_cache:
        jax.config.update("jax_enable_compilation_cache", True)
        reset_cache()


@pytest.fixture(scope="module")
def compiled_anew(compilations_kept):
    """Disables the compilation cache.

    For modules that train on several devices without `unclip train`, which disables it itself, or that compile for
    devices that are not present.
    """
    from unclip_jax.commands import compilation_cache

    compilation_cache.enable(collectives=True)


@pytest.fixture(scope="session")
def on_one_device():
    """Hides all devices except the first within a `with` block.

    Programs for several devices compile longer and are not cached.
    """

    @contextlib.contextmanager
    def limit():
        first = jax.devices()[:1]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(jax, "devices", lambda: first)
            patch.setattr(jax, "local_devices", lambda: first)
            patch.setattr(jax, "local_device_count", lambda: 1)
            yield

    return limit


@pytest.fixture(scope="module")
def one_device(on_one_device):
    """Hides all devices except the first. Programs for several compile longer and are not cached."""
    with on_one_device():
        yield


@pytest.fixture
def full_disk():
    """Returns a context manager that limits files to `size` bytes, to simulate a full disk."""

    @contextlib.contextmanager
    def limit(size: int):
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    return limit
