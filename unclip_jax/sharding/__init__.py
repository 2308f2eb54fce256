"""Sharding: device meshes, sharding rules for parameters, and transfer of host arrays to devices."""
