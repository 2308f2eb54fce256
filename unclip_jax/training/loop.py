"""The training loop: steps, evaluation, saving, stopping.

    WORKDIR/config.json   the config
    WORKDIR/checkpoints/  see `checkpoints`
    WORKDIR/.lock         while a run trains, see `workdir_lock`

`run_log` lists the other files.
"""

import contextlib
import dataclasses
import functools
import itertools
import json
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any, NoReturn, Protocol

import jax
import numpy as np
from etils import epath
from jax.sharding import Mesh

from unclip_jax import files, parameters
from unclip_jax.arrays import PyTree
from unclip_jax.sharding.mesh import check_batch, make_mesh
from unclip_jax.sharding.placement import place, place_batch
from unclip_jax.training.checkpoints import Checkpoints
from unclip_jax.training.compiled_functions import CompiledFunctions, compile_functions
from unclip_jax.training.interrupt import StopRequest, stop_requests
from unclip_jax.training.resume import CONFIG, check_workdir, latest_record, latest_state
from unclip_jax.training.run_log import RunLog
from unclip_jax.training.spec import RunConfig
from unclip_jax.training.state import TrainState
from unclip_jax.training.task import Task
from unclip_jax.training.workdir_lock import lock_workdir

Batch = dict[str, np.ndarray]


class Batches(Protocol):
    """The data of this process. Each batch is a function of its step alone."""

    def batches(self, start_step: int) -> Iterator[Batch]:
        """Returns the batches from a step on."""


def check_config(config: RunConfig, mesh: Mesh | None = None) -> None:
    """Raises ValueError if the batch cannot be split over the mesh. If `mesh` is None, it is the config's."""
    mesh = mesh or make_mesh(**vars(config.mesh))
    check_batch(config.training.global_batch, mesh, config.training.micro_batches)


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
    initial_variables: PyTree | None = None,
    provenance: dict[str, Any] | None = None,
    progress: bool = True,
) -> int:
    """Trains to `config.training.steps`, resuming from the latest checkpoint in `workdir`.

    Args:
      task: What is learned.
      config: The settings. The workdir stores the whole config.
      frozen: {name: tree of host arrays} that the task reads and that are not trained; {} for none.
      extras: {name: tree of host arrays} to keep in every checkpoint; {} for none. A resumed run takes those of its
        checkpoint, which also replace the arrays of the same name in `frozen`.
      train_data: The training data.
      eval_data: The evaluation data. If None, there are no evaluations and no previews.
      workdir: The folder of the run.
      mesh: If None, `config.mesh` over all devices.
      initial_params: Parameters that a new run starts from. If None, the task initializes them.
      initial_variables: Variables of the task that a new run starts from. If None, the task initializes them.
      provenance: What every checkpoint records about the start of the run, as stored in JSON. A resumed run keeps that
        of its checkpoint.
      progress: Whether to show a progress bar.

    Returns:
      The last step.

    Raises:
      ValueError: For settings that cannot work, a workdir of another config, with different frozen parameters or in
        which another run is training (see `lock_workdir`), or if all its checkpoints are damaged.
      FloatingPointError: After `max_bad_steps` skipped steps in a row.
      KeyboardInterrupt: After a checkpoint, if a stop was requested by Ctrl-C or SIGTERM.
    """
    mesh = mesh or make_mesh(**vars(config.mesh))
    check_config(config, mesh)
    check_workdir(config, workdir)
    training = config.training
    with lock_workdir(workdir), contextlib.ExitStack() as stack:
        digests = {name: parameters.digest(tree) for name, tree in frozen.items() if name not in extras}
        start, record = latest_record(workdir, config, digests)
        first, batches = _open(train_data, start)
        functions = compile_functions(task, config=config, frozen=frozen, batch=first, mesh=mesh)
        _write_config(config, workdir)
        checkpoints = Checkpoints(workdir, keep=training.keep, keep_every=training.keep_every)
        stack.enter_context(closing(checkpoints))
        if record is None:
            state = functions.initialize(initial_params or {}, initial_variables or {})
        else:
            provenance, opened = record.provenance, start
            start, state, extras = latest_state(checkpoints, start, functions.shapes)
            if start != opened:  # the arrays of a checkpoint with an intact record were damaged
                _, batches = _open(train_data, start)
        frozen = {**frozen, **{name: tree for name, tree in extras.items() if name in frozen}}
        run = _Run(
            config=config,
            functions=functions,
            mesh=mesh,
            frozen=place(frozen, functions.frozen_shardings),
            batches=batches,
            eval_data=eval_data,
            log=stack.enter_context(closing(RunLog(workdir, training, start=start, progress=progress))),
            checkpoints=checkpoints,
            save=functools.partial(
                checkpoints.save, extras=extras, config=config.to_json(), frozen=digests, provenance=provenance
            ),
        )
        return run.train(state, start, stack.enter_context(stop_requests()))


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class _Run:
    """The training loop and all that it needs.

    Attributes:
      frozen: The frozen parameters, on the devices.
      batches: The batches from the start of the run on.
      save: Starts to save a state.
    """

    config: RunConfig
    functions: CompiledFunctions
    mesh: Mesh
    frozen: PyTree
    batches: Iterator[Batch]
    eval_data: Batches | None
    log: RunLog
    checkpoints: Checkpoints
    save: Callable[[TrainState], None]

    def train(self, state: TrainState, start: int, stop: StopRequest) -> int:
        training = self.config.training
        for step in range(start + 1, training.steps + 1):
            # Overlap: prepare and transfer the next batch while the previous step is still running.
            with self.log.timer.waiting():
                batch = place_batch(next(self.batches), self.mesh)
            state, metrics = self.functions.train(state, self.frozen, batch)
            self.log.add(step, metrics, batch.get("record"))
            if self._is_eval_step(step) or self._is_preview_step(step):
                self.log.flush(functools.partial(self._evaluate_and_preview, step, state))
            stopping = bool(stop)
            if stopping or training.is_due(step, training.checkpoint_every):
                self.log.flush()
                with self.log.timer.pause():
                    self.save(state)
            if stopping and step < training.steps:
                self._stop(step)
        return max(training.steps, start)

    def _is_eval_step(self, step: int) -> bool:
        return self.eval_data is not None and self.config.training.is_due(step, self.config.training.eval_every)

    def _is_preview_step(self, step: int) -> bool:
        is_due = self.config.training.is_due(step, self.config.training.preview_every)
        return is_due and self.eval_data is not None and self.functions.preview is not None

    def _evaluate_and_preview(self, step: int, state: TrainState) -> dict[str, float]:
        """Returns the metrics of the evaluation as eval_* and writes a preview, each if it is due."""
        is_eval_step = self._is_eval_step(step)
        count = self.config.training.eval_batches if is_eval_step else 1
        results = []
        for index, batch in enumerate(itertools.islice(self.eval_data.batches(0), count)):
            batch = place_batch(batch, self.mesh)
            if is_eval_step:
                results.append(self.functions.evaluate(state, self.frozen, batch))
            if index == 0 and self._is_preview_step(step):
                self.log.write_preview(step, self.functions.preview(state, self.frozen, batch))
        results = jax.device_get(results)
        names = results[0] if results else ()
        return {f"eval_{name}": float(np.mean([result[name] for result in results])) for name in names}

    def _stop(self, step: int) -> NoReturn:
        self.checkpoints.wait()
        message = (
            f"Stopped at step {step} of {self.config.training.steps} after saving a checkpoint. Run again to resume."
        )
        self.log.print(message)
        raise KeyboardInterrupt(message)


def _open(data: Batches, start: int) -> tuple[Batch, Iterator[Batch]]:
    """Returns the first batch from a step on, and all batches including it."""
    batches = data.batches(start)
    first = next(batches)
    return first, itertools.chain([first], batches)


def _write_config(config: RunConfig, workdir: epath.PathLike) -> None:
    if jax.process_index() == 0:
        workdir = epath.Path(workdir)
        workdir.mkdir(parents=True, exist_ok=True)
        files.atomic_write(workdir / CONFIG, json.dumps(config.to_json(), indent=2) + "\n")
