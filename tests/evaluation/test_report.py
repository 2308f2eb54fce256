"""Tables and JSON of hand-written results."""

import json

import pytest

from unclip_jax.evaluation import report
from unclip_jax.evaluation.suite import Measure
from unclip_jax.evaluation.suites.shapes import SUITE
from unclip_jax.evaluation.table import Column, Table, value_table

ONE = {
    "accuracy": 0.875,
    "n": 200,
    "interval": (0.8219, 0.9139),
    "attributes": {"shape": 0.9, "colour": 1.0, "size": 0.95, "background": 1.0, "number": 0.98, "readable": 0.985},
}
SHUFFLED = {**ONE, "accuracy": 0.0, "chance": {"accuracy": 0.0015, "attributes": {"shape": 1 / 6}}}
DIVERSITY = {"ratio": 0.931, "spread": 38.24, "spread_of_data": 41.07, "prompts": 16, "pictures": 125}
FLATNESS = {"share": 0.9812, "share_of_true": 0.9934, "n": 188}
UNNAMED = {
    "n": 60,
    "shares": {"size": {"small": 0.25, "large": 0.75}, "colour": {"red": 1.0, "blue": 0.0}},
    "shares_of_data": {"size": {"small": 0.5, "large": 0.5}, "colour": {"red": 0.52, "blue": 0.48}},
}
ATTRIBUTES = {"n": 200, "attributes": {"shape": 0.86, "size": 0.955}}
UPSAMPLER = {
    "n": 200,
    "psnr": 33.5,
    "psnr_bicubic": 29.0,
    "psnr_gain": 4.5,
    "flat": 0.97,
    "flat_bicubic": 0.8,
    "flat_true": 0.98,
    "gap_closed": 17 / 18,
}
RETRIEVAL = {"n": 200, "text_to_image": 0.95, "image_to_text": 0.965}
COSINE = {"n": 200, "cosine": 0.9123, "cosine_shuffled": 0.2}


MEASURES = {measure.name: measure for measure in SUITE.measures}


def table_lines(name, result, before=()):
    """Returns the table lines of a measure of the shapes suite after those of other measures."""
    previous = MEASURES[before[-1]] if before else None
    return report.table_lines(MEASURES[name], result, previous)


def as_json(results, settings):
    return report.as_json([(MEASURES[name], result) for name, result in results.items()], settings)


def cells(line):
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_table_columns_are_aligned():
    blank, head, rule, line = table_lines("one_object", ONE)
    assert blank == ""
    assert set(rule) == {"|", "-"}
    assert len(head) == len(rule) == len(line)
    row = dict(zip(cells(head), cells(line), strict=True))
    assert row["row"] == "one_object"
    assert row["n"] == "200"
    assert row["correct"] == "87.5%"
    assert row["95% interval"] == "82.2 to 91.4"
    assert (row["shape"], row["color"], row["readable"], row["relation"]) == ("90.0%", "100.0%", "98.5%", "")


def test_table_has_one_header_wherever_it_starts():
    assert len(table_lines("two_objects", ONE, ["one_object"])) == 1
    assert len(table_lines("diversity", DIVERSITY, ["one_object"])) == 4
    assert len(table_lines("prior_cosine", COSINE, ["one_object", "diversity"])) == 1
    assert len(table_lines("prior_cosine", COSINE, [])) == 4


def test_chance_level_is_printed_below_shuffled():
    line, chance = table_lines("shuffled", SHUFFLED, ["one_object"])
    assert cells(line)[:3] == ["shuffled", "200", "0.0%"]
    assert cells(chance)[:5] == ["(chance)", "", "0.1%", "", "16.7%"]


def test_values_are_formatted_as_text():
    def text(row, result):
        return cells(table_lines(row, result)[-1])[1]

    assert text("diversity", DIVERSITY) == (
        "0.93: 38.2 px, dataset 41.1 px (16 prompts, 125 readable images of one object)"
    )
    unreadable = {**DIVERSITY, "ratio": None, "spread": None}
    assert text("diversity", unreadable).startswith("not available (16 prompts")
    assert text("flatness", FLATNESS) == "98.1% of the pixels, true images 99.3% (n 188)"
    assert text("flatness", {**FLATNESS, "share": None, "n": 0}).startswith("no readable images, true images 99.3%")
    assert text("unnamed", UNNAMED) == (
        "size small 25.0% (50.0%), large 75.0% (50.0%); color red 100.0% (52.0%), blue 0.0% (48.0%) "
        "(n 60; dataset in parentheses)"
    )
    assert text("upsampler_16_to_64", UPSAMPLER) == (
        "+4.50 dB over bicubic (29.00 dB); flat pixels 97.0%, bicubic 80.0%, true images 98.0%: "
        "94.4% of the gap closed (n 200)"
    )
    assert "no gap" in text("upsampler_64_to_256", {**UPSAMPLER, "gap_closed": None})
    assert text("clip_retrieval", RETRIEVAL) == "text to image 95.0%, image to text 96.5%, chance 0.5% (n 200)"
    assert text("clip_attributes", ATTRIBUTES) == "identified by CLIP: shape 86.0%, size 95.5% (n 200)"
    assert text("prior_cosine", COSINE) == (
        "0.912 to the embedding of the true image, 0.200 to those of other images (n 200)"
    )


def test_as_json_has_measures_as_keys():
    results = {
        "one_object": ONE,
        "diversity": DIVERSITY,
        "upsampler_64_to_256": UPSAMPLER,
        "clip_retrieval": RETRIEVAL,
        "prior_cosine": COSINE,
    }
    out = json.loads(json.dumps(as_json(results, {"seed": 3})))
    assert out["settings"] == {"seed": 3}
    assert out["one_object"]["accuracy"] == 0.875
    assert out["one_object"]["interval"] == [0.8219, 0.9139]
    assert out["diversity"] == 0.931
    assert out["diversity_spread"] == {"spread": 38.24, "spread_of_data": 41.07, "prompts": 16, "pictures": 125}
    assert out["upsampler_64_to_256"]["psnr_gain"] == 4.5
    assert out["stages"] == {"clip_retrieval": RETRIEVAL, "prior_cosine": COSINE}
    assert "two_objects" not in out


def test_tables_of_shapes_suite_match_expected_text():
    chance = {**SHUFFLED["chance"], "attributes": {"shape": 1 / 6, "background": 0.125}}
    two = {**ONE, "n": 2000, "attributes": {**ONE["attributes"], "relation": 0.0}}
    results = {
        "two_objects": two,
        "shuffled": {**ONE, "chance": chance},
        "flatness": FLATNESS,
        "clip_retrieval": RETRIEVAL,
    }
    lines, before = [], []
    for name, result in results.items():
        lines += table_lines(name, result, before)
        before.append(name)
    assert lines == [
        "",
        "| row            |    n | correct |  95% interval "
        "|  shape |  color |   size | background | relation | number | readable |",
        "|----------------|------|---------|---------------"
        "|--------|--------|--------|------------|----------|--------|----------|",
        "| two_objects    | 2000 |   87.5% |  82.2 to 91.4 "
        "|  90.0% | 100.0% |  95.0% |     100.0% |     0.0% |  98.0% |    98.5% |",
        "| shuffled       |  200 |   87.5% |  82.2 to 91.4 "
        "|  90.0% | 100.0% |  95.0% |     100.0% |          |  98.0% |    98.5% |",
        "| (chance)       |      |    0.1% |               "
        "|  16.7% |        |        |      12.5% |          |        |          |",
        "",
        "| metric               | value |",
        "|----------------------|-------|",
        "| flatness             | 98.1% of the pixels, true images 99.3% (n 188) |",
        "| clip_retrieval       | text to image 95.0%, image to text 96.5%, chance 0.5% (n 200) |",
    ]


def test_json_of_shapes_suite_matches_expected_text():
    results = {"reader": ONE, "diversity": DIVERSITY, "clip_retrieval": RETRIEVAL, "clip_attributes": ATTRIBUTES}
    assert json.dumps(as_json(results, {"seed": 3})) == (
        '{"settings": {"seed": 3}, '
        '"reader": {"accuracy": 0.875, "n": 200, "interval": [0.8219, 0.9139], "attributes": {"shape": 0.9, '
        '"colour": 1.0, "size": 0.95, "background": 1.0, "number": 0.98, "readable": 0.985}}, '
        '"diversity": 0.931, '
        '"diversity_spread": {"spread": 38.24, "spread_of_data": 41.07, "prompts": 16, "pictures": 125}, '
        '"stages": {"clip_retrieval": {"n": 200, "text_to_image": 0.95, "image_to_text": 0.965}, '
        '"clip_attributes": {"n": 200, "attributes": {"shape": 0.86, "size": 0.955}}}}'
    )


def test_table_header_is_repeated_after_another_table():
    value = Measure("a", None, value_table(lambda result: result["text"]), "")
    other = Measure(
        "b", None, Table((Column("x", 3, ">"), Column("y", 2)), lambda name, result: [result, {"y": "1"}]), ""
    )
    assert report.table_lines(value, {"text": "long text"}, other) == [
        "",
        "| metric               | value |",
        "|----------------------|-------|",
        "| a                    | long text |",
    ]
    assert report.table_lines(other, {"x": "2"}, value) == [
        "",
        "|   x | y  |",
        "|-----|----|",
        "|   2 |    |",
        "|     | 1  |",
    ]
    assert report.table_lines(other, {"x": "2"}, other) == ["|   2 |    |", "|     | 1  |"]


@pytest.mark.parametrize("first, second", [(1.0, 2.0), ({"a": 1.0}, 2.0), (1.0, {"a": 1.0})])
def test_measures_must_not_overwrite_values_of_others(first, second):
    measures = [Measure(name, dict, None, "", lambda name, result: {"same": result}) for name in ("one", "two")]
    with pytest.raises(ValueError, match="^measure 'two' must add a new key to the JSON object, got 'same'.$"):
        report.as_json(zip(measures, (first, second), strict=True), {})


def test_measures_must_not_overwrite_the_settings():
    measure = Measure("one", dict, None, "", lambda name, result: {"settings": result})
    with pytest.raises(ValueError, match="got 'settings'"):
        report.as_json([(measure, {"seed": 1})], {"seed": 0})
