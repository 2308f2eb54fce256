"""Cascades of trained stages: loading, saving and sampling."""
