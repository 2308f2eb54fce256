"""Stages: typed specs, trained networks in memory, and the conditions that pass between them."""
