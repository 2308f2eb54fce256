"""Evaluation of cascades and single stages: statistics, measures and suites of measures.

The model under test is a set of functions (`model_under_test.ModelUnderTest`). Nothing here depends on how they are
implemented.
"""
