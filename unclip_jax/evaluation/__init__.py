"""Evaluation of images and stages: statistics, the measures computed from them, and suites of measures.

The model under test is a set of functions (`model_under_test.ModelUnderTest`). Nothing here depends on how they work.
"""
