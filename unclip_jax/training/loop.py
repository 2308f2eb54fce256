"""The loop: goes on from the newest checkpoint or begins, steps, measures, writes, and stops so that it can go on.

    WORKDIR/config.json      the config
    WORKDIR/checkpoints/     see checkpointing
    WORKDIR/metrics.jsonl    one line a logged step; TensorBoard events beside it
    WORKDIR/previews/        pictures, for stages that make any
    WORKDIR/.lock            while a run trains, see workdir_lock
    WORKDIR/bad_steps.jsonl  steps that were skipped or whose loss jumped, with the numbers of their records
"""

import contextlib
import itertools
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any, NoReturn, Protocol

import jax
import numpy as np
import tqdm
from etils import epath
from jax.experimental import multihost_utils
from jax.sharding import Mesh

from unclip_jax import files, parameters
from unclip_jax.arrays import PyTree
from unclip_jax.sharding.mesh import check_batch, make_mesh
from unclip_jax.sharding.placement import place, place_batch
from unclip_jax.training import checkpointing
from unclip_jax.training.anomalies import SpikeDetector
from unclip_jax.training.clock import Clock
from unclip_jax.training.interruption import StopRequest, stop_requests
from unclip_jax.training.metric_writer import MetricWriter, append_line
from unclip_jax.training.spec import RunConfig, check_same
from unclip_jax.training.state import TrainState
from unclip_jax.training.step import Steps, make_steps
from unclip_jax.training.task import Task
from unclip_jax.training.workdir_lock import lock_workdir

BAD_STEPS = "bad_steps.jsonl"
SLOW_DATA = 0.1  # share of the time beyond which waiting for data is said

__all__ = ["Batches", "check_config", "check_workdir", "train"]


class Batches(Protocol):
    """Data: the batches of this process from a step on, each a function of its step alone."""

    def batches(self, start_step: int) -> Iterator[dict[str, np.ndarray]]: ...


def check_config(config: RunConfig, mesh: Mesh | None = None) -> None:
    """Raises ValueError if the batch cannot be split over the mesh. If `mesh` is None, it is the config's."""
    mesh = mesh or make_mesh(**vars(config.mesh))
    check_batch(config.training.global_batch, mesh, config.training.micro_batches)


def check_workdir(config: RunConfig, workdir: epath.PathLike) -> None:
    """Raises ValueError for a workdir that is no folder or was trained with another config. Writes nothing.

    Raises NewerSchema for a workdir that a newer version of unclip_jax trained.
    """
    workdir = epath.Path(workdir)
    if workdir.exists() and not workdir.is_dir():
        raise ValueError(f"workdir {str(workdir)!r} is a file; a folder is wanted")
    checkpointing.check_schema_of_newest(workdir)
    if (workdir / "config.json").exists():
        check_same(config, files.read_json(workdir / "config.json"), str(workdir))


def train(
    task: Task,
    *,
    config: RunConfig,
    frozen: PyTree,
    extras: PyTree,
    train_data: Batches,
    eval_data: Batches | None,
    workdir: epath.PathLike,
    mesh: Mesh | None = None,
    initial_params: PyTree | None = None,
    origin: dict[str, Any] | None = None,
    progress: bool = True,
) -> int:
    """Trains to `config.training.steps`, going on from the newest checkpoint in `workdir`. Returns the last step.

    Args:
      task: what is learned.
      config: the settings, and all that the workdir is to keep of the config.
      frozen: {name: tree of host arrays} that the task reads and nobody trains; {} for none.
      extras: {name: tree of host arrays} kept in every checkpoint; {} for none. On resuming they are the checkpoint's,
        and take the place of what stands under the same name in `frozen`.
      train_data, eval_data: eval_data None: no validation and no previews.
      mesh: None: `config.mesh` over all devices.
      initial_params: what a new run begins with. None: the task's own initialisation.
      origin: what every checkpoint is to say of what the run began with, as JSON holds it. On resuming it is the
        checkpoint's.
      progress: shows a bar.

    Raises ValueError for settings that cannot work, a workdir of another config, with other frozen parameters or in
    which another run is training (see `lock_workdir`), or a damaged checkpoint; FloatingPointError after
    `max_bad_steps` steps in a row that were skipped; KeyboardInterrupt when it was asked to stop (Ctrl-C, SIGTERM),
    after a checkpoint.
    """
    mesh = mesh or make_mesh(**vars(config.mesh))
    check_config(config, mesh)
    check_workdir(config, workdir)
    with lock_workdir(workdir):
        run = _Run(task, config, frozen, extras, train_data, eval_data, workdir, mesh, initial_params, origin)
        return run.run(progress)


class _Run:
    """One call of `train`."""

    def __init__(self, task, config, frozen, extras, train_data, eval_data, workdir, mesh, initial_params, origin):
        """Checks all that can be checked before anything is written."""
        self.config, self.mesh, self.eval_data = config, mesh, eval_data
        self.workdir = epath.Path(workdir)
        self.leader = jax.process_index() == 0
        self.start, self.saved = 0, checkpointing.steps_saved(workdir)
        self.initial_params, self.origin = initial_params, origin
        self.digests = {name: parameters.digest(tree) for name, tree in frozen.items() if name not in extras}
        record = self._newest_whole(self._checked_record)
        if record:
            self.origin = record["origin"]
        self.frozen, self.extras = frozen, extras
        self.train_data = train_data
        self.batches, first = self._opened()
        self.steps: Steps = make_steps(task, config=config, frozen=frozen, batch=first, mesh=mesh)

    def run(self, progress: bool) -> int:
        if self.leader:
            self._write_config()
        with contextlib.ExitStack() as stack:
            training = self.config.training
            self.checkpoints = stack.enter_context(
                closing(checkpointing.Checkpoints(self.workdir, keep=training.keep, keep_every=training.keep_every))
            )
            self.state = self._begin()
            own = {name: tree for name, tree in self.extras.items() if name in self.frozen}
            self.frozen = place({**self.frozen, **own}, self.steps.frozen_shardings)
            self.writer = None
            if self.leader:
                self.writer = stack.enter_context(closing(MetricWriter(self.workdir, step=self.start)))
            self.clock = Clock(self.writer.last.get("seconds", 0.0) if self.writer else 0.0)
            self.spikes = SpikeDetector(self.config.training.spike_factor)
            self.bar = stack.enter_context(self._bar(progress and self.leader))
            return self._loop(stack.enter_context(stop_requests()))

    def _begin(self) -> TrainState:
        if self.saved:
            opened_at = self.start
            state, self.extras = self._newest_whole(lambda step: self.checkpoints.restore(step, self.steps.shapes))
            if self.start != opened_at:
                self.batches, _ = self._opened()
            return state
        return self.steps.init() if self.initial_params is None else self.steps.init_from(self.initial_params)

    def _opened(self) -> tuple[Iterator[dict[str, np.ndarray]], dict[str, np.ndarray]]:
        """The batches from `start` on, and the first of them."""
        batches = self.train_data.batches(self.start)
        first = next(batches)
        return itertools.chain([first], batches), first

    def _newest_whole(self, read: Callable[[int], Any]) -> Any:
        """What `read` makes of the newest checkpoint that is whole, whose step becomes `start`. A damaged one is
        passed over with a line that says so; where all are, the last error is raised. None: there is no checkpoint."""
        while self.saved:
            self.start = self.saved[-1]
            try:
                return read(self.start)
            except checkpointing.DamagedCheckpoint as error:
                if len(self.saved) == 1:
                    raise
                self.saved = self.saved[:-1]
                if self.leader:
                    print(f"{error} Going on from there.", file=sys.stderr)
        return None

    def _loop(self, stop: StopRequest) -> int:
        training, pending = self.config.training, None
        for step in range(self.start + 1, training.steps + 1):
            # While the devices still compute the step before, the next batch is made, and its copy to them begun.
            with self.clock.waiting():
                batch = place_batch(next(self.batches), self.mesh)
            self.state, metrics = self.steps.train(self.state, self.frozen, batch)
            if pending:
                self._record(*pending)  # reading the metrics of a step waits for it, so it is done one step late
            pending = (step, metrics, batch.get("record"))
            stopping = stop.asked
            saving = stopping or self._due(step, training.checkpoint_every)
            if saving or self._validates(step) or self._previews(step):
                self._record(*pending)
                pending = None
            if saving:
                with self.clock.pause():
                    record = {"config": self.config.to_json(), "frozen": self.digests, "origin": self.origin}
                    self.checkpoints.save(self.state, self.extras, **record)
            if stopping and step < training.steps:
                self._stop(step)
        return max(training.steps, self.start)

    def _stop(self, step: int) -> NoReturn:
        self.checkpoints.wait()
        self.bar.close()
        said = f"stopped at step {step} of {self.config.training.steps}, which is saved: run it again to go on"
        if self.leader:
            print(said, file=sys.stderr)
        raise KeyboardInterrupt(said)

    def _record(self, step: int, metrics: dict[str, jax.Array], records: jax.Array | None) -> None:
        """Reads a step's metrics, and writes a line where one is due."""
        training = self.config.training
        metrics = jax.device_get(metrics)
        skipped, in_a_row = int(metrics.pop("skipped")), int(metrics.pop("skipped_in_a_row"))
        values = {"loss": float(metrics.pop("loss")), **{name: float(value) for name, value in metrics.items()}}
        self.clock.step(values["loss"])
        self.bar.update(1)
        if in_a_row or self.spikes.is_spike(values["loss"]):
            self._write_bad_step(step, values, records, skipped=in_a_row > 0)
        if in_a_row >= training.max_bad_steps:
            raise FloatingPointError(
                f"loss or gradient was not finite, or longer than skip_norm, in {in_a_row} steps in a row, up to step "
                f"{step} (config.training.max_bad_steps {training.max_bad_steps}). None changed the parameters; "
                f"try a lower config.optimizer.learning_rate, from the newest checkpoint in {str(self.workdir)!r}."
            )
        looks = self._validates(step) or self._previews(step)
        if not (looks or step == 1 or self._due(step, training.log_every)):
            return
        values |= {"skipped": skipped, **self.clock.interval(training.global_batch)}
        speed = values.get("images_per_second")
        shown = f"loss {values.get('loss_mean', values['loss']):.4g}" + (f", {speed:.4g} images/s" if speed else "")
        if values.get("data_wait", 0.0) > SLOW_DATA:
            shown += f", {values['data_wait']:.0%} of the time waiting for data"
        self.bar.set_postfix_str(shown, refresh=False)
        if looks:
            with self.clock.pause():
                values |= self._look(step)
        if self.writer:
            self.writer.write(step, values)

    def _write_bad_step(self, step: int, values: dict[str, float], records: jax.Array | None, skipped: bool) -> None:
        """What is known of a step that was skipped or whose loss jumped, and a line for who watches."""
        line = {"step": step, "skipped": skipped, "loss": values["loss"], "grad_norm": values["grad_norm"]}
        if records is not None:
            line["records"] = np.asarray(multihost_utils.process_allgather(records, tiled=True)).tolist()
        if not self.leader:
            return
        append_line(self.workdir / BAD_STEPS, line)
        what = "was skipped" if skipped else "has a loss that jumped"
        self.bar.write(
            f"step {step} {what}: loss {line['loss']:.4g}, gradient norm {line['grad_norm']:.4g}; its records are in "
            f"{str(self.workdir / BAD_STEPS)!r}",
            file=sys.stderr,
        )

    def _due(self, step: int, every: int) -> bool:
        return bool(every) and (step % every == 0 or step == self.config.training.steps)

    def _validates(self, step: int) -> bool:
        return self.eval_data is not None and self._due(step, self.config.training.eval_every)

    def _previews(self, step: int) -> bool:
        due = self._due(step, self.config.training.preview_every)
        return due and self.eval_data is not None and self.steps.preview is not None

    def _look(self, step: int) -> dict[str, float]:
        """Validation by the averaged parameters, as eval_*, and a preview, each where it is due."""
        validates, previews = self._validates(step), self._previews(step)
        count = self.config.training.eval_batches if validates else 1
        results = []
        for number, batch in enumerate(itertools.islice(self.eval_data.batches(0), count)):
            batch = place_batch(batch, self.mesh)
            if validates:
                results.append(self.steps.evaluate(self.state.ema, self.frozen, batch))
            if previews and number == 0:
                pictures = self.steps.preview(self.state.ema, self.frozen, batch)
                if self.writer:
                    self.writer.write_pictures(step, jax.device_get(pictures))
        results = jax.device_get(results)
        names = results[0] if results else ()
        return {f"eval_{name}": float(np.mean([result[name] for result in results])) for name in names}

    def _checked_record(self, step: int) -> dict[str, Any]:
        """What a checkpoint says of itself. It must be of this config and of these frozen parameters."""
        record = checkpointing.read_record(checkpointing.directory(self.workdir), step)
        check_same(self.config, record["config"], str(self.workdir))
        was, now = record["frozen"], self.digests
        changed = [name for name in sorted(was.keys() | now.keys()) if was.get(name) != now.get(name)]
        if changed:
            said = "; ".join(f"{name} has digest {now.get(name)} and had {was.get(name)}" for name in changed)
            raise ValueError(
                f"workdir {str(self.workdir)!r} was trained beside other frozen parameters: {said}. Give it those "
                "again (config.encoders), or choose another workdir."
            )
        return record

    def _write_config(self) -> None:
        self.workdir.mkdir(parents=True, exist_ok=True)
        files.atomic_write(self.workdir / "config.json", json.dumps(self.config.to_json(), indent=2) + "\n")

    def _bar(self, shown: bool) -> tqdm.tqdm:
        # A log file needs fewer lines than a terminal.
        interval = 0.5 if sys.stderr.isatty() else 10.0
        total = self.config.training.steps
        return tqdm.tqdm(total=total, initial=self.start, unit="step", disable=not shown, mininterval=interval)
