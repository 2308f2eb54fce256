"""Shared functions of the benchmarks: machine description, timing and FLOP counts."""

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
    """Describes machine, date, command and versions.

    Args:
      rate: Measured rate of matrix products on one device, in FLOP/s.
    """
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("jax", "jaxlib", "flax"))
    devices = jax.local_devices()
    return (
        f"machine  {processor()}, {len(os.sched_getaffinity(0))} cores; {len(devices)} x {devices[0].device_kind}\n"
        f"date     {datetime.datetime.now(datetime.UTC):%Y-%m-%d %H:%M} UTC\n"
        f"command  {shlex.join(['python', *sys.argv])}\n"
        f"versions Python {platform.python_version()}, {versions}\n"
        f"matmul   {rate / 1e9:,.0f} GFLOP/s per device, measured"
    )


def processor() -> str:
    """Returns the name of the processor, or its architecture if the name is not available."""
    with contextlib.suppress(OSError), open("/proc/cpuinfo") as file:
        for line in file:
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def product_rate(size: int = 2048) -> float:
    """Returns the best FLOP/s of a device in matrix products, in float32 on CPUs and bfloat16 elsewhere."""
    dtype = jnp.float32 if jax.default_backend() == "cpu" else jnp.bfloat16
    a = jnp.ones((size, size), dtype)
    multiply = jax.jit(lambda a: a @ a)
    return 2 * size**3 / best_seconds(lambda: multiply(a), min_seconds=1.0)


def best_seconds(call: Callable[[], object], *, min_seconds: float) -> float:
    """Returns the shortest time of a call.

    Args:
      call: Function to measure. The first call is not counted.
      min_seconds: Total duration of the measurement, which has at least three calls.
    """
    jax.block_until_ready(call())
    durations = []
    while len(durations) < 3 or sum(durations) < min_seconds:
        start = time.perf_counter()
        jax.block_until_ready(call())
        durations.append(time.perf_counter() - start)
    return min(durations)


def mean_seconds(call: Callable[[], object], *, min_seconds: float) -> float:
    """Returns the mean time of calls that are dispatched without waiting for the previous one.

    Args:
      call: Function to measure. The first call is not counted.
      min_seconds: Total duration of the measurement, which has at least three calls.
    """
    jax.block_until_ready(call())
    count, start = 0, time.perf_counter()
    while count < 3 or time.perf_counter() - start < min_seconds:
        result, count = call(), count + 1
    jax.block_until_ready(result)
    return (time.perf_counter() - start) / count


def peak_memory() -> int:
    """Returns the peak memory of the first device in bytes, or of this process if there are no statistics."""
    statistics = jax.local_devices()[0].memory_stats() or {}
    unit = 1 if sys.platform == "darwin" else 1024
    return statistics.get("peak_bytes_in_use") or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


@contextlib.contextmanager
def unrolled_layers() -> Iterator[None]:
    """Unrolls loops over layers within the block, because XLA counts the FLOPs of one iteration only."""
    with mock.patch.object(nn, "scan", functools.partial(nn.scan, unroll=1024)):
        yield


def flops(function: Callable, *arguments: object) -> float:
    """Returns the FLOPs of one call on all devices together, as counted by XLA."""
    with unrolled_layers():
        # A new function, because JAX caches the trace of `function`.
        lowered = jax.jit(lambda *arguments: function(*arguments)).lower(*arguments)
    return lowered.cost_analysis()["flops"]
