"""What every test runs on: eight pretend CPU devices, one compilation cache for all test processes, and no network.

Set here before anything imports jax. Tests that start a process of their own inherit the environment, but not the eight
devices: those are asked for in code (`jax.config.update("jax_num_cpu_devices", 8)`), or by JAX_NUM_CPU_DEVICES.
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

CACHE_LIMIT = 2 * 1024**3  # bytes; a cache that has grown beyond is begun anew
COMPILATIONS = pathlib.Path(
    os.environ.get("JAX_COMPILATION_CACHE_DIR")
    or pathlib.Path.home() / ".cache" / f"unclip_jax-tests-{platform.machine()}"
)
# What the library keeps for its user (prepared data and such) goes to a folder that ends with the test process.
USER_CACHE = tempfile.mkdtemp(prefix="unclip_jax-tests-")

os.environ.update(
    JAX_PLATFORMS="cpu",
    JAX_COMPILATION_CACHE_DIR=str(COMPILATIONS),
    # Thousands of small programs: even the smallest is quicker read than compiled.
    JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS="0",
    JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES="-1",
    # XLA gives the CPU as many threads as there are devices. A device that waits for the others in a collective holds
    # its thread, and a matrix product hands parts of itself to the same threads: with eight for eight devices, seven
    # wait, the eighth finds no thread for its product, and after 40 s XLA ends the process.
    PJRT_NPROC="32",
    HF_HUB_OFFLINE="1",
    TRANSFORMERS_NO_ADVISORY_WARNINGS="1",
    UNCLIP_CACHE=USER_CACHE,
)
assert "jax" not in sys.modules, "jax was imported before tests/conftest.py could choose its devices"

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
    """Once a run, and before its workers start: empties a compilation cache that has grown too large."""
    if hasattr(config, "workerinput") or not COMPILATIONS.is_dir():
        return
    if sum(entry.stat().st_size for entry in os.scandir(COMPILATIONS) if entry.is_file()) > CACHE_LIMIT:
        shutil.rmtree(COMPILATIONS, ignore_errors=True)


def pytest_unconfigure() -> None:
    shutil.rmtree(USER_CACHE, ignore_errors=True)


@pytest.fixture(scope="module", autouse=True)
def compilations_kept():
    """After a module that trained on several devices, and so with nothing kept, compilations are kept again."""
    yield
    if not jax.config.jax_enable_compilation_cache:
        jax.config.update("jax_enable_compilation_cache", True)
        reset_cache()


@pytest.fixture(scope="module")
def compiled_anew(compilations_kept):
    """For modules that train on several devices without the command, which sees to it by itself, or compile for what
    is not there."""
    from unclip_jax.commands import compilation_cache

    compilation_cache.enable(collectives=True)


@pytest.fixture(scope="session")
def on_one_device():
    """Within `with on_one_device():` there is one device.

    Training on several takes longer to compile, and their programs are not cached.
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
    """For modules that train, but do not test training on several devices."""
    with on_one_device():
        yield


@pytest.fixture
def full_disk():
    """Within `with full_disk(size):` no file grows beyond `size` bytes, as on a disk that has no room for more."""

    @contextlib.contextmanager
    def limit(size: int):
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    return limit
