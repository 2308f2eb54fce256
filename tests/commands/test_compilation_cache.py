"""Compiled programs are kept, but for those whose collectives lose their order on the way."""

import jax
import numpy as np
import pytest
from jax.experimental.compilation_cache.compilation_cache import reset_cache

from unclip_jax.__main__ import main
from unclip_jax.commands import compilation_cache


def compile_anything(number):
    np.testing.assert_array_equal(jax.jit(lambda x: x + number)(np.arange(3)), np.arange(3) + number)


@pytest.fixture
def kept(tmp_path, monkeypatch):
    """The folder of a cache that is in use; what it was set to before comes back after the test."""
    settings = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")
    before = {name: getattr(jax.config, name) for name in settings}
    monkeypatch.setenv(compilation_cache.VARIABLE, str(tmp_path))
    jax.config.update("jax_compilation_cache_dir", str(tmp_path))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    reset_cache()
    compile_anything(1)
    yield tmp_path
    for name, value in before.items():
        jax.config.update(name, value)
    jax.config.update("jax_enable_compilation_cache", True)
    reset_cache()


@pytest.mark.parametrize(
    ("collectives", "backend", "devices", "kept_one"),
    [(False, "cpu", 8, True), (True, "cpu", 1, True), (True, "tpu", 8, True), (True, "cpu", 8, False)],
)
def test_what_training_on_several_cpu_devices_compiles_is_not_kept(
    kept, monkeypatch, collectives, backend, devices, kept_one
):
    monkeypatch.setattr(jax, "local_device_count", lambda: devices)
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    before = set(kept.iterdir())
    compilation_cache.enable(collectives=collectives)
    monkeypatch.undo()
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    compile_anything(2)
    assert bool(set(kept.iterdir()) - before) == kept_one


def test_training_says_that_its_devices_exchange_data(monkeypatch, tmp_path):
    asked = []
    monkeypatch.setattr(compilation_cache, "enable", lambda **how: asked.append(how))
    assert main(["train", "--config=nowhere.py", f"--workdir={tmp_path / 'run'}"]) == 2
    assert asked == [{"collectives": True}]
