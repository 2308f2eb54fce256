"""What the benchmarks say of the machine, and how they count and time."""

import contextlib
import datetime
import functools
import importlib.metadata
import os
import platform
import resource
import shlex
import sys
import time
from collections.abc import Callable, Iterator
from unittest import mock

import flax.linen as nn
import jax
import jax.numpy as jnp


def header(rate: float) -> str:
    """Machine, date, command and versions. `rate`: measured, of matrix products, in FLOP/s of one device."""
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("jax", "jaxlib", "flax"))
    devices = jax.local_devices()
    return (
        f"machine  {processor()}, {len(os.sched_getaffinity(0))} cores; {len(devices)} x {devices[0].device_kind}\n"
        f"date     {datetime.datetime.now(datetime.UTC):%Y-%m-%d %H:%M} UTC\n"
        f"command  {shlex.join(['python', *sys.argv])}\n"
        f"versions Python {platform.python_version()}, {versions}\n"
        f"products {rate / 1e9:,.0f} GFLOP/s a device, measured"
    )


def processor() -> str:
    """The processor's name, where the system tells it."""
    with contextlib.suppress(OSError), open("/proc/cpuinfo") as file:
        for line in file:
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def product_rate(size: int = 2048) -> float:
    """FLOP/s of one device in products of square matrices, float32 on a CPU and bfloat16 elsewhere; the best."""
    dtype = jnp.float32 if jax.default_backend() == "cpu" else jnp.bfloat16
    a = jnp.ones((size, size), dtype)
    multiply = jax.jit(lambda a: a @ a)
    return 2 * size**3 / best_seconds(lambda: multiply(a), least=1.0)


def best_seconds(call: Callable[[], object], *, least: float) -> float:
    """Of the quickest of as many calls as fit into `least` seconds, three and more, after one that is not counted."""
    jax.block_until_ready(call())
    taken = []
    while len(taken) < 3 or sum(taken) < least:
        start = time.perf_counter()
        jax.block_until_ready(call())
        taken.append(time.perf_counter() - start)
    return min(taken)


def mean_seconds(call: Callable[[], object], *, least: float) -> float:
    """Of a call among as many as fit into `least` seconds, three and more, none of which waits for the one before."""
    jax.block_until_ready(call())
    count, start = 0, time.perf_counter()
    while count < 3 or time.perf_counter() - start < least:
        answer, count = call(), count + 1
    jax.block_until_ready(answer)
    return (time.perf_counter() - start) / count


def peak_memory() -> int:
    """Bytes: of the first device where it counts them, of this process where it does not, as on a CPU."""
    statistics = jax.local_devices()[0].memory_stats() or {}
    unit = 1 if sys.platform == "darwin" else 1024
    return statistics.get("peak_bytes_in_use") or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


@contextlib.contextmanager
def unrolled_layers() -> Iterator[None]:
    """Traces transformers without their loop over layers, of which XLA's count sees the first round alone."""
    with mock.patch.object(nn, "scan", functools.partial(nn.scan, unroll=1024)):
        yield


def flops(function: Callable, *arguments: object) -> float:
    """XLA's count of the operations of one call, over all devices together."""
    with unrolled_layers():
        # A new function, as the traced one is remembered.
        lowered = jax.jit(lambda *arguments: function(*arguments)).lower(*arguments)
    return lowered.cost_analysis()["flops"]
