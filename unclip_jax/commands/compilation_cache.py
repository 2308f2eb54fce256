"""Where compiled programs are kept from one call of a command to the next."""

import os

VARIABLE = "JAX_COMPILATION_CACHE_DIR"


def directory() -> str:
    """$JAX_COMPILATION_CACHE_DIR, or `compiled` in the folder of this package."""
    from unclip_jax.paths import default_directory

    return os.environ.get(VARIABLE) or str(default_directory() / "compiled")


def enable(*, collectives: bool = False) -> None:
    """Keeps there what takes longer than half a second to compile.

    Args:
      collectives: whether devices will exchange data within a program, as in training. Then nothing is kept where
        there are several CPU devices: a program for the CPU that is read back from the cache has lost the order of its
        collectives (seen with jax 0.10.2), and sooner or later its devices wait for each other, each in another one,
        until XLA ends the process after 40 s.
    """
    import jax
    from jax.experimental.compilation_cache.compilation_cache import reset_cache

    if collectives and jax.default_backend() == "cpu" and jax.local_device_count() > 1:
        jax.config.update("jax_enable_compilation_cache", False)
        reset_cache()  # whether it is used is asked once, when the first program is compiled
        return
    jax.config.update("jax_compilation_cache_dir", directory())
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
