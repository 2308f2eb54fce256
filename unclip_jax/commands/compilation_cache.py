"""Where compiled programs are kept from one call of a command to the next."""

import os

VARIABLE = "JAX_COMPILATION_CACHE_DIR"


def directory() -> str:
    """$JAX_COMPILATION_CACHE_DIR, or `compiled` in the folder of this package."""
    from unclip_jax.data.user_cache import default_directory

    return os.environ.get(VARIABLE) or str(default_directory() / "compiled")


def enable() -> None:
    """Keeps there what takes longer than half a second to compile."""
    import jax

    jax.config.update("jax_compilation_cache_dir", directory())
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
