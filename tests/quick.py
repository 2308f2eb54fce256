"""`jax.jit` for programs that run once, without backend optimization, which halves compile time."""

import functools

import jax

jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
