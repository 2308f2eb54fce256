"""Logging of metrics as JSON lines and TensorBoard events.

`metrics.jsonl` contains one JSON object per logged step. A resumed run first removes the lines after the step from
which it resumes, so that no step occurs twice.
"""

import json
import math
import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorboardX
from etils import epath

from unclip_jax import files, images
from unclip_jax.arrays import UInt8


class MetricWriter:
    """Writer of the metrics and previews of a workdir.

    Call `close` at the end. TensorBoard events are written only to local folders, because their format requires files
    that can be appended to.
    """

    def __init__(self, workdir: epath.PathLike, *, step: int = 0):
        """Opens the files of a workdir.

        Args:
          workdir: Folder of the run.
          step: The step from which the run resumes. Later lines are removed.
        """
        self.workdir = epath.Path(workdir)
        self._path = self.workdir / "metrics.jsonl"
        self._lines = [line for line in read_metrics(workdir) if line["step"] <= step]
        self._remote = "://" in str(workdir)
        self._rewrite()
        self._events = None
        if not self._remote:
            self._events = tensorboardX.SummaryWriter(str(workdir), purge_step=step + 1 if step else None)

    @property
    def last(self) -> dict[str, Any]:
        """The latest line, or {} if there is none."""
        return self._lines[-1] if self._lines else {}

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Writes one line. Numbers that are not finite are written as null, which JSON can represent."""
        finite = _finite(values)
        self._lines.append({"step": step, **finite})
        if self._remote:
            self._rewrite()
        else:
            append_line(self._path, self._lines[-1])
        if self._events is not None:
            for name, value in finite.items():
                if value is not None:
                    self._events.add_scalar(name, value, step)

    def write_preview(self, step: int, preview: UInt8["N H W 3"]) -> None:
        """Writes a grid of images to `previews/` and TensorBoard."""
        grid = np.asarray(images.grid(np.asarray(preview)))
        folder = self.workdir / "previews"
        folder.mkdir(parents=True, exist_ok=True)
        images.write_png(folder / f"step_{step:08d}.png", grid)
        if self._events is not None:
            self._events.add_image("preview", grid, step, dataformats="HWC")

    def flush(self) -> None:
        """Writes buffered TensorBoard events to disk."""
        if self._events is not None:
            self._events.flush()

    def close(self) -> None:
        """Closes the TensorBoard file."""
        if self._events is not None:
            self._events.close()

    def _rewrite(self) -> None:
        files.atomic_write(self._path, "".join(json.dumps(line) + "\n" for line in self._lines))


def append_line(path: epath.PathLike, values: Mapping[str, Any]) -> None:
    """Appends an object to a file of JSON lines. Numbers that are not finite are written as null.

    If the last write was interrupted, the object still starts on a new line.
    """
    path, text = epath.Path(path), json.dumps(_finite(values)) + "\n"
    if "://" in str(path):  # object stores cannot append
        files.atomic_write(path, (path.read_text() if path.exists() else "") + text)
        return
    with open(path, "ab+") as file:
        if file.tell():
            file.seek(-1, os.SEEK_END)
            text = text if file.read(1) == b"\n" else f"\n{text}"
        file.write(text.encode())


def _finite(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _number(value) if isinstance(value, float | np.floating) else value for name, value in values.items()}


def _number(value: float) -> float | None:
    """Returns a number for JSON, with the significant digits of float32, or None if it is not finite."""
    return float(str(np.float32(value))) if math.isfinite(value) else None


def read_metrics(workdir: epath.PathLike) -> list[dict[str, Any]]:
    """Reads `metrics.jsonl` of a workdir, without an incomplete last line. Returns [] if there is no file."""
    path = epath.Path(workdir) / "metrics.jsonl"
    lines = []
    for text in path.read_text().splitlines() if path.exists() else []:
        try:
            lines.append(json.loads(text))
        except json.JSONDecodeError:
            break
    return lines
