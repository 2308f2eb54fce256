"""Compilation cache: enabled, except for programs whose collectives lose their order in it."""

import jax
import numpy as np
import pytest
from jax.experimental.compilation_cache.compilation_cache import reset_cache

from unclip_jax.__main__ import main
from unclip_jax.commands import compilation_cache


def compile_program(number):
    np.testing.assert_array_equal(jax.jit(lambda x: x + number)(np.arange(3)), np.arange(3) + number)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """Enables a cache, yields its folder and restores the previous settings."""
    settings = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")
    before = {name: getattr(jax.config, name) for name in settings}
    monkeypatch.setenv(compilation_cache.VARIABLE, str(tmp_path))
    jax.config.update("jax_compilation_cache_dir", str(tmp_path))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    reset_cache()
    compile_program(1)
    yield tmp_path
    for name, value in before.items():
        jax.config.update(name, value)
    jax.config.update("jax_enable_compilation_cache", True)
    reset_cache()


@pytest.mark.parametrize(
    ("collectives", "backend", "devices", "is_cached"),
    [(False, "cpu", 8, True), (True, "cpu", 1, True), (True, "tpu", 8, True), (True, "cpu", 8, False)],
)
def test_cache_is_disabled_for_training_on_several_cpu_devices(
    cache, monkeypatch, collectives, backend, devices, is_cached
):
    monkeypatch.setattr(jax, "local_device_count", lambda: devices)
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    before = set(cache.iterdir())
    compilation_cache.enable(collectives=collectives)
    monkeypatch.undo()
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    compile_program(2)
    assert bool(set(cache.iterdir()) - before) == is_cached


def test_train_enables_cache_with_collectives(monkeypatch, tmp_path):
    calls = []
    monkeypatch.setattr(compilation_cache, "enable", lambda **arguments: calls.append(arguments))
    assert main(["train", "--config=nowhere.py", f"--workdir={tmp_path / 'run'}"]) == 2
    assert calls == [{"collectives": True}]
