"""The table of evaluation suites.

Other packages add suites with `SUITES.register(suite.name, suite)` or with entry points in the group
`unclip_jax.suites`, which are loaded when a name is unknown or the suites are listed.
"""

from unclip_jax.evaluation.suite import Suite
from unclip_jax.evaluation.suites import shapes
from unclip_jax.registry import Registry

SUITES: Registry[Suite] = Registry("suite", "unclip_jax.suites", {shapes.SUITE.name: shapes.SUITE}, entry_type=Suite)
