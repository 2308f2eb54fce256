"""Metrics as JSON lines, previews and TensorBoard events."""

import json

import numpy as np

from unclip_jax import images
from unclip_jax.training.metric_writer import MetricWriter, append_line, read_metrics


def test_values_are_written_and_null_if_not_finite(tmp_path):
    writer = MetricWriter(tmp_path)
    writer.write(2, {"loss": np.float32(0.1), "skipped": 3})
    writer.write(4, {"loss": float("nan")})
    writer.close()
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [{"step": 2, "loss": 0.1, "skipped": 3}, {"step": 4, "loss": None}]


def test_resuming_removes_later_lines_and_incomplete_line(tmp_path):
    lines = [json.dumps({"step": step, "loss": 1.0}) for step in (2, 4, 6)]
    (tmp_path / "metrics.jsonl").write_text("\n".join([*lines, '{"step": 8, "lo']))
    assert [line["step"] for line in read_metrics(tmp_path)] == [2, 4, 6]
    writer = MetricWriter(tmp_path, step=4)
    assert writer.last == {"step": 4, "loss": 1.0}
    writer.write(6, {"loss": 2.0})
    writer.close()
    assert [(line["step"], line["loss"]) for line in read_metrics(tmp_path)] == [(2, 1.0), (4, 1.0), (6, 2.0)]


def test_read_metrics_is_empty_without_file(tmp_path):
    assert read_metrics(tmp_path) == []
    writer = MetricWriter(tmp_path)
    assert writer.last == {}
    writer.close()


def test_preview_is_written_as_grid_and_event(tmp_path):
    preview = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3)).astype(np.uint8)
    writer = MetricWriter(tmp_path)
    writer.write(7, {"loss": 1.0})
    writer.write_preview(7, preview)
    writer.close()
    grid = images.read_image(tmp_path / "previews" / "step_00000007.png")
    np.testing.assert_array_equal(grid[:8, :8], preview[0])
    np.testing.assert_array_equal(grid[-8:, -8:], preview[3])
    (events,) = tmp_path.glob("events.*")
    content = events.read_bytes()
    assert b"loss" in content and b"preview" in content


def test_append_line_starts_new_line_after_incomplete_line(tmp_path):
    append_line(tmp_path / "lines.jsonl", {"step": 1})
    with (tmp_path / "lines.jsonl").open("a") as file:
        file.write('{"step": 2, "lo')
    append_line(tmp_path / "lines.jsonl", {"step": 3})
    append_line(tmp_path / "lines.jsonl", {"step": 4})
    lines = (tmp_path / "lines.jsonl").read_text()
    assert lines == '{"step": 1}\n{"step": 2, "lo\n{"step": 3}\n{"step": 4}\n'
