"""`jax.jit` for programs that run once: XLA's backend optimises nothing, which halves the time of compilation."""

import functools

import jax

jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
