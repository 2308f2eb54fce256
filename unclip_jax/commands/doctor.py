"""`unclip doctor`: what this machine has, and whether the package can use it."""

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
  unclip doctor --expect tpu          # in a launch script: stops it where the TPU was not found

Exit code 0: the accelerator that is here, or none where none is, can be used. 1: it cannot."""

PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "tensorflow-datasets", "transformers")
KINDS = ("cpu", "gpu", "tpu")
# What an accelerator leaves in a machine whether or not jax can use it: files, and variables of hosted notebooks.
FILES = {"tpu": ("dev/accel0", "dev/vfio/0"), "gpu": ("dev/nvidia0", "dev/nvidiactl", "dev/kfd")}
VARIABLES = {"tpu": ("TPU_NAME", "TPU_WORKER_ID", "TPU_ACCELERATOR_TYPE", "COLAB_TPU_ADDR"), "gpu": ("COLAB_GPU",)}
EXTRAS = {"tpu": "tpu", "gpu": "cuda"}
SIDE = 1024  # of the matrices that are multiplied to see that the device works


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser(
        "doctor",
        help="what this machine has, and whether it can be used",
        description="Prints versions, devices and folders, and multiplies two matrices on every device.",
        epilog=EXAMPLE,
    )
    parser.add_argument("--expect", choices=KINDS, help="the devices that there must be (default: what is seen here)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    import jax

    from unclip_jax import __version__, huge_pages
    from unclip_jax.cascades.sources import bundled_names
    from unclip_jax.paths import default_directory

    expected, reason = (args.expect, "--expect") if args.expect else sign_of_accelerator(os.environ)
    print(f"unclip_jax {__version__}, Python {platform.python_version()}, {platform.platform()}")
    print(", ".join(f"{name} {importlib.metadata.version(name)}" for name in PACKAGES))
    found = jax.default_backend()
    print(f"backend {found}, process {jax.process_index()} of {jax.process_count()}, {os.cpu_count()} CPU cores")
    for device in jax.local_devices():
        print(f"  {device.device_kind} {device.id}: {_memory(device)}{_product(device)}")
    asked = ", asked for" if huge_pages.asks(os.environ) else ""
    print(f"huge pages: {huge_pages.mode()}{asked}")
    print(f"bundled cascades: {', '.join(bundled_names())}")
    print(f"data: {default_directory()}; compiled programs: {compilation_cache.directory()}")
    complaint = complaint_about(found, expected, reason, os.environ.get("JAX_PLATFORMS", ""))
    if complaint:
        print(f"unclip doctor: {complaint}", file=sys.stderr)
        return 1
    return 0


def sign_of_accelerator(environment: Mapping[str, str], root: str = "/") -> tuple[str | None, str]:
    """(the kind of accelerator that this machine seems to have, or None; the file or variable that says so)."""
    for kind, names in FILES.items():
        for name in names:
            if (pathlib.Path(root) / name).exists():
                return kind, f"/{name}"
    for kind, names in VARIABLES.items():
        for name in names:
            if environment.get(name):
                return kind, f"${name}"
    return None, ""


def complaint_about(found: str, expected: str | None, reason: str, platforms: str) -> str | None:
    """What is wrong where jax found other devices than were expected; None where nothing is.

    Args:
      reason: why they were expected.
      platforms: the value of JAX_PLATFORMS.
    """
    if expected in (None, found):
        return None
    if platforms:
        cure = f"JAX_PLATFORMS is {platforms!r}: unset it"
    elif expected == "cpu":
        cure = "set JAX_PLATFORMS=cpu"
    else:
        cure = f'install its jax (pip install "unclip_jax[{EXTRAS[expected]}]"), and see that no other process holds it'
    return f"expected {expected} ({reason}) and jax found {found}; {cure}"


def _memory(device) -> str:
    limit = (device.memory_stats() or {}).get("bytes_limit")
    return f"{limit / 2**30:.1f} GiB, " if limit else ""


def _product(device) -> str:
    """Multiplies, looks at the result, and says how long the second time took."""
    import jax
    import jax.numpy as jnp

    ones = jax.device_put(jnp.ones((SIDE, SIDE)), device)
    multiply = jax.jit(lambda x: x @ x)
    right = bool((multiply(ones) == SIDE).all())
    started = time.perf_counter()
    multiply(ones).block_until_ready()
    rate = 2 * SIDE**3 / (time.perf_counter() - started) / 1e9
    return f"{rate:.0f} GFLOP/s in a product of {SIDE} x {SIDE}" if right else "its matrix product is WRONG"
