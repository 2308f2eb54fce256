"""The command `unclip doctor`: reports versions, devices and cache folders."""

import argparse
import importlib.metadata
import os
import pathlib
import platform
import sys
import time
from collections.abc import Mapping

from unclip_jax.commands import compilation_cache

EXAMPLE = """examples:
  unclip doctor
  unclip doctor --expect tpu     # in a launch script: fail early if JAX finds no TPU

The exit code is 1 if JAX does not use the expected backend, otherwise 0."""

PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "tensorflow-datasets", "transformers")
BACKENDS = ("cpu", "gpu", "tpu")
# Signs of an accelerator that do not depend on JAX: device files, and environment variables of hosted notebooks.
FILES = {"tpu": ("dev/accel0", "dev/vfio/0"), "gpu": ("dev/nvidia0", "dev/nvidiactl", "dev/kfd")}
VARIABLES = {"tpu": ("TPU_NAME", "TPU_WORKER_ID", "TPU_ACCELERATOR_TYPE", "COLAB_TPU_ADDR"), "gpu": ("COLAB_GPU",)}
EXTRAS = {"tpu": "tpu", "gpu": "cuda"}
SIZE = 1024  # rows and columns of the matrices that are multiplied to test a device


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Adds the parser of `unclip doctor`."""
    parser = subparsers.add_parser(
        "doctor",
        help="report versions, devices and cache folders",
        description="Reports versions, devices and cache folders, and multiplies two matrices on\nevery device.",
        epilog=EXAMPLE,
    )
    parser.add_argument(
        "--expect",
        choices=BACKENDS,
        help="fail unless JAX uses this backend (default: detected from the hardware)",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Runs `unclip doctor` and returns the exit code."""
    import jax

    from unclip_jax import __version__, huge_pages
    from unclip_jax.cascades.sources import bundled_names
    from unclip_jax.paths import default_directory

    expected, reason = (args.expect, "--expect") if args.expect else detect_accelerator(os.environ)
    print(f"unclip_jax {__version__}, Python {platform.python_version()}, {platform.platform()}")
    print(", ".join(f"{name} {importlib.metadata.version(name)}" for name in PACKAGES))
    backend = jax.default_backend()
    print(f"backend {backend}, process {jax.process_index()} of {jax.process_count()}, {os.cpu_count()} CPU cores")
    for device in jax.local_devices():
        print(f"  {device.device_kind} {device.id}: {_memory(device)}{_product(device)}")
    requested = ", requested" if huge_pages.asks(os.environ) else ""
    print(f"huge pages: {huge_pages.mode()}{requested}")
    print(f"bundled cascades: {', '.join(bundled_names())}")
    print(f"data: {default_directory()}; compiled programs: {compilation_cache.directory()}")
    problem = diagnose_backend(backend, expected, reason, os.environ.get("JAX_PLATFORMS", ""))
    if problem:
        print(f"unclip doctor: {problem}", file=sys.stderr)
        return 1
    return 0


def detect_accelerator(environment: Mapping[str, str], root: str = "/") -> tuple[str | None, str]:
    """Detects the accelerator of this machine without JAX.

    Args:
      environment: Environment variables.
      root: Root of the file system.

    Returns:
      "tpu" or "gpu", and the device file or variable that indicates it. (None, "") if there is no sign of one.
    """
    for backend, names in FILES.items():
        for name in names:
            if (pathlib.Path(root) / name).exists():
                return backend, f"/{name}"
    for backend, names in VARIABLES.items():
        for name in names:
            if environment.get(name):
                return backend, f"${name}"
    return None, ""


def diagnose_backend(actual: str, expected: str | None, reason: str, platforms: str) -> str | None:
    """Describes the problem and its solution if JAX does not use the expected backend.

    Args:
      actual: Backend of JAX.
      expected: Expected backend. If None, any backend is accepted.
      reason: Source of the expectation, such as a device file or a flag.
      platforms: Value of JAX_PLATFORMS, empty if not set.

    Returns:
      The message, or None if there is no problem.
    """
    if expected in (None, actual):
        return None
    if platforms:
        hint = f"Unset JAX_PLATFORMS, which is {platforms!r}."
    elif expected == "cpu":
        hint = "Set JAX_PLATFORMS=cpu."
    else:
        extra = EXTRAS[expected]
        hint = f'Install JAX for it (pip install "unclip_jax[{extra}]") and check that no other process is using it.'
    return f"expected backend {expected} ({reason}), but JAX uses {actual}. {hint}"


def _memory(device) -> str:
    limit = (device.memory_stats() or {}).get("bytes_limit")
    return f"{limit / 2**30:.1f} GiB, " if limit else ""


def _product(device) -> str:
    """Multiplies two matrices and describes the speed of the second call, or reports an incorrect result."""
    import jax
    import jax.numpy as jnp

    ones = jax.device_put(jnp.ones((SIZE, SIZE)), device)
    multiply = jax.jit(lambda x: x @ x)
    if not bool((multiply(ones) == SIZE).all()):
        return "incorrect matrix product"
    started = time.perf_counter()
    multiply(ones).block_until_ready()
    rate = 2 * SIZE**3 / (time.perf_counter() - started) / 1e9
    return f"{rate:.0f} GFLOP/s ({SIZE} x {SIZE} matrix product)"
