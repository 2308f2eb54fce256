"""How good it is: measures of pictures and of stages, and suites of them.

Everything here takes functions that make pictures and embeddings, and cares not whose they are.
"""
