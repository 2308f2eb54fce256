"""Selecting and running the measures of a suite."""

import pytest

from unclip_jax.evaluation.model_under_test import ModelUnderTest
from unclip_jax.evaluation.suite import BATCH_SIZE, Measure, Suite, run_measures
from unclip_jax.evaluation.suites.shapes import SUITE
from unclip_jax.evaluation.table import value_table

MODEL = ModelUnderTest(None, None, None, None, None)
TABLE = value_table(str)


def named(*names, run=dict):
    return tuple(Measure(name, run, TABLE, f"about {name}") for name in names)


def test_select_returns_measures_in_the_order_of_the_suite():
    suite = Suite("letters", named("a", "b", "c"))
    assert suite.select(["c", "a"]) == (suite.measures[0], suite.measures[2])


def test_select_rejects_unknown_names_and_no_names():
    with pytest.raises(ValueError, match=r"^Unknown measure 'x' in suite 'letters'. Available: a, b.$"):
        Suite("letters", named("a", "b")).select(["a", "x"])
    known = r"one_object, two_objects, .*prior_cosine\."
    with pytest.raises(ValueError, match=rf"^Unknown measure 'one_objekt' in --rows. Available: {known}$"):
        SUITE.select(("reader", "one_objekt"), where="--rows")
    with pytest.raises(ValueError, match=f"^--rows must contain a measure. Available: {known}$"):
        SUITE.select((), where="--rows")
    with pytest.raises(ValueError, match=f"^names must contain a measure. Available: {known}$"):
        SUITE.select(())


def test_suite_rejects_duplicate_measure_names():
    with pytest.raises(ValueError, match="^The measures of suite 'letters' must have different names, got a, b, a.$"):
        Suite("letters", named("a", "b", "a"))


def test_run_measures_rejects_fewer_than_two_prompts_before_running():
    with pytest.raises(ValueError, match="^num_prompts must be at least 2, got 1.$"):
        run_measures(named("a"), MODEL, num_prompts=1)


def test_run_measures_yields_each_result_before_the_next_measure_runs():
    events = []
    measures = [
        *named("a", run=lambda run: events.append("a") or {"value": (run.model, run.seed, run.num_prompts)}),
        *named("b", run=lambda run: events.append("b") or {"value": 1}),
    ]
    for measure, result in run_measures(measures, MODEL, seed=4, num_prompts=6):
        events.append((measure.name, result["value"]))
    assert events == ["a", ("a", (MODEL, 4, 6)), "b", ("b", 1)]


def test_batches_yield_first_index_and_report_progress():
    items, calls = list(range(BATCH_SIZE + 3)), []
    [(_, result)] = run_measures(
        named("a", run=lambda run: {"batches": list(run.batches(items))}),
        MODEL,
        progress=lambda *call: calls.append(call),
    )
    assert result["batches"] == [(0, items[:BATCH_SIZE]), (BATCH_SIZE, items[BATCH_SIZE:])]
    total = BATCH_SIZE + 3
    assert calls == [("a", 0, total), ("a", BATCH_SIZE, total), ("a", total, total)]


def test_shared_is_computed_once_per_call_of_run_measures():
    computed = []

    def work(run):
        computed.append(run.seed)
        return run.seed

    measures = named("a", "b", run=lambda run: {"value": run.shared(work)})
    for seed in (1, 2):
        assert [result for _, result in run_measures(measures, MODEL, seed=seed)] == [{"value": seed}] * 2
    assert computed == [1, 2]


@pytest.mark.parametrize("names", [(), ("a", "settings")])
def test_suite_rejects_no_measures_and_the_reserved_name(names):
    with pytest.raises(ValueError, match="^suite 'letters' must have measures, none of them named settings, got"):
        Suite("letters", named(*names))
