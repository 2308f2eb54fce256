"""Log of a run: metrics, bad steps and a progress bar.

    WORKDIR/metrics.jsonl    one line per logged step, see `metric_writer`
    WORKDIR/previews/        images, for tasks that have previews
    WORKDIR/bad_steps.jsonl  skipped steps and loss spikes, with the indices of their records

Only the leader process writes these files.
"""

import sys
from collections.abc import Callable

import jax
import numpy as np
import tqdm
from etils import epath
from jax.experimental import multihost_utils

from unclip_jax.training.loss_spikes import SpikeDetector
from unclip_jax.training.metric_writer import MetricWriter, append_line
from unclip_jax.training.spec import TrainingSpec
from unclip_jax.training.step_timer import StepTimer

BAD_STEPS = "bad_steps.jsonl"
SLOW_DATA = 0.1  # fraction of the time above which the progress bar reports waiting for data


class RunLog:
    """Writer of metrics, bad steps and previews.

    Call `close` at the end. Reading the metrics of a step blocks until the devices have finished it. They are therefore
    read only after the next step has been started.

    Attributes:
      timer: Timer of the steps. Work that is not part of a step must run inside `timer.pause()`.
    """

    def __init__(self, workdir: epath.PathLike, training: TrainingSpec, *, start: int, progress: bool):
        """Opens the log.

        Args:
          workdir: Folder of the run.
          training: Training settings.
          start: The step from which the run resumes; 0 for a new run. Later lines of an earlier run are removed.
          progress: Whether to show a progress bar.
        """
        is_leader = jax.process_index() == 0
        self._workdir, self._training = epath.Path(workdir), training
        self._writer = MetricWriter(workdir, step=start) if is_leader else None
        self._spikes = SpikeDetector(training.spike_factor)
        self._pending: tuple[int, dict[str, jax.Array], jax.Array | None] | None = None
        self._bar = _progress_bar(training.steps, start, shown=progress and is_leader)
        self.timer = StepTimer(self._writer.last.get("seconds", 0.0) if self._writer else 0.0)

    def add(self, step: int, metrics: dict[str, jax.Array], records: jax.Array | None) -> None:
        """Adds a step that was just started, and flushes the previous one.

        Args:
          step: Number of the step, from 1.
          metrics: Metrics of the step. They may still be computed.
          records: Indices of the records in the batch. If None, the data has no such indices.
        """
        self.flush()
        self._pending = step, metrics, records

    def flush(self, evaluate: Callable[[], dict[str, float]] | None = None) -> None:
        """Waits for the step that was added last and logs it if it is due.

        Args:
          evaluate: Returns additional values to log. If None, there are none. Otherwise the step is always logged.

        Raises:
          FloatingPointError: After `max_bad_steps` skipped steps in a row.
        """
        if self._pending is None:
            return
        (step, metrics, records), self._pending = self._pending, None
        metrics = jax.device_get(metrics)
        skipped, in_a_row = int(metrics.pop("skipped")), int(metrics.pop("skipped_in_a_row"))
        values = {"loss": float(metrics.pop("loss")), **{name: float(value) for name, value in metrics.items()}}
        self.timer.step(values["loss"])
        self._bar.update(1)
        if in_a_row or self._spikes.is_spike(values["loss"]):
            self._write_bad_step(step, values, records, skipped=in_a_row > 0)
        self._check_bad_steps(step, in_a_row)
        if evaluate is None and step != 1 and not self._training.is_due(step, self._training.log_every):
            return
        values |= {"skipped": skipped, **self.timer.interval(self._training.global_batch)}
        self._show(values)
        if evaluate is not None:
            with self.timer.pause():
                values |= evaluate()
        if self._writer:
            self._writer.write(step, values)

    def write_preview(self, step: int, preview: jax.Array) -> None:
        """Writes preview images."""
        if self._writer:
            self._writer.write_preview(step, jax.device_get(preview))

    def print(self, message: str) -> None:
        """Prints a line above the progress bar."""
        if self._writer:
            self._bar.write(message, file=sys.stderr)

    def close(self) -> None:
        """Closes the progress bar and the files."""
        self._bar.close()
        if self._writer:
            self._writer.close()

    def _write_bad_step(self, step: int, values: dict[str, float], records: jax.Array | None, *, skipped: bool) -> None:
        line = {"step": step, "skipped": skipped, "loss": values["loss"], "grad_norm": values["grad_norm"]}
        if records is not None:
            line["records"] = np.asarray(multihost_utils.process_allgather(records, tiled=True)).tolist()
        if not self._writer:
            return
        append_line(self._workdir / BAD_STEPS, line)
        what = f"Skipped step {step}" if skipped else f"Loss spike at step {step}"
        self.print(
            f"{what}: loss {line['loss']:.4g}, gradient norm {line['grad_norm']:.4g}. Its records are listed in "
            f"{str(self._workdir / BAD_STEPS)!r}."
        )

    def _check_bad_steps(self, step: int, in_a_row: int) -> None:
        limit = self._training.max_bad_steps
        if in_a_row >= limit:
            raise FloatingPointError(
                f"loss or gradient was not finite, or the gradient norm exceeded skip_norm, in {in_a_row} steps in a "
                f"row, up to step {step} (config.training.max_bad_steps is {limit}). None of them changed the "
                "parameters. Try a lower config.optimizer.learning_rate, starting from the latest checkpoint in "
                f"{str(self._workdir)!r}."
            )

    def _show(self, values: dict[str, float]) -> None:
        speed = values.get("images_per_second")
        shown = f"loss {values.get('loss_mean', values['loss']):.4g}" + (f", {speed:.4g} images/s" if speed else "")
        if values.get("data_wait", 0.0) > SLOW_DATA:
            shown += f", {values['data_wait']:.0%} of the time waiting for data"
        self._bar.set_postfix_str(shown, refresh=False)


def _progress_bar(steps: int, start: int, *, shown: bool) -> tqdm.tqdm:
    # Update less often if the output is a log file.
    interval = 0.5 if sys.stderr.isatty() else 10.0
    return tqdm.tqdm(total=steps, initial=start, unit="step", disable=not shown, mininterval=interval)
