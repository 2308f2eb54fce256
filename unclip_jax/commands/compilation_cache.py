"""Persistent compilation cache of the commands."""

import os

VARIABLE = "JAX_COMPILATION_CACHE_DIR"


def directory() -> str:
    """Returns $JAX_COMPILATION_CACHE_DIR, or `compiled` in the cache folder of the package."""
    from unclip_jax.paths import default_directory

    return os.environ.get(VARIABLE) or str(default_directory() / "compiled")


def enable(*, collectives: bool = False) -> None:
    """Enables the cache for programs that take longer than half a second to compile.

    Args:
      collectives: Whether compiled programs contain collectives, as in training. If so, the cache is disabled on
        several CPU devices. A CPU program that is loaded from the cache loses the order of its collectives (observed
        with jax 0.10.2). Its devices eventually wait for each other in different collectives, until XLA aborts the
        process after 40 s.
    """
    import jax
    from jax.experimental.compilation_cache.compilation_cache import reset_cache

    if collectives and jax.default_backend() == "cpu" and jax.local_device_count() > 1:
        jax.config.update("jax_enable_compilation_cache", False)
        reset_cache()  # JAX reads the setting only once, when it compiles the first program
        return
    jax.config.update("jax_compilation_cache_dir", directory())
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
