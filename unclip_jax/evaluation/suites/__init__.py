"""Suites of measures, and the table of all.

Suites of other packages are added with `SUITES.register(suite.name, suite)`, or by the entry-point group
`unclip_jax.suites`, all of whose entry points are loaded when a name is unknown or the suites are listed.
"""

from unclip_jax.evaluation.suite import Suite
from unclip_jax.evaluation.suites import shapes
from unclip_jax.registry import Registry

SUITES: Registry[Suite] = Registry("suite", "unclip_jax.suites", {shapes.SUITE.name: shapes.SUITE}, entry_type=Suite)
