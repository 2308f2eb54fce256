"""Training loop: restores the latest checkpoint, runs steps, logs, evaluates and saves.

    WORKDIR/config.json   the config
    WORKDIR/checkpoints/  see `checkpoints`
    WORKDIR/.lock         locked while a run is in progress, see `workdir_lock`

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
    """Data of this process. A batch depends only on its step."""

    def batches(self, start_step: int) -> Iterator[Batch]:
        """Returns the batches from `start_step` on, counted from 0."""


def check_config(config: RunConfig, mesh: Mesh | None = None) -> None:
    """Checks that the batch can be split over the mesh.

    Args:
      config: Settings of the run.
      mesh: Mesh of the devices. If None, `config.mesh` over all devices.

    Raises:
      ValueError: If the batch cannot be split.
    """
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
    """Trains until `config.training.steps`, resuming from the latest checkpoint in `workdir`.

    Args:
      task: The training task.
      config: Settings of the run. The workdir stores them.
      frozen: {name: tree of host arrays} of parameters that the task reads but does not train; {} for none.
      extras: {name: tree of host arrays} to save in every checkpoint; {} for none. A resumed run uses the extras of its
        checkpoint, which also replace the entries of the same name in `frozen`.
      train_data: Training data.
      eval_data: Evaluation data. If None, evaluations and previews are disabled.
      workdir: Folder of the run.
      mesh: Mesh of the devices. If None, `config.mesh` over all devices.
      initial_params: Initial parameters of a new run. The task initializes the top-level entries that are missing. If
        None, it initializes all of them.
      initial_variables: Initial variables of a new run, completed in the same way.
      provenance: Description of the start of the run that every checkpoint records as JSON. A resumed run keeps the
        provenance of its checkpoint.
      progress: Whether to show a progress bar.

    Returns:
      The last step.

    Raises:
      ValueError: If the settings are invalid, the workdir was trained with another config or with different frozen
        parameters, another run is using it (see `lock_workdir`), or all its checkpoints are damaged.
      FloatingPointError: After `max_bad_steps` skipped steps in a row.
      OSError: If a checkpoint cannot be written.
      KeyboardInterrupt: If a stop was requested by Ctrl-C or SIGTERM, after a checkpoint is saved.
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
            state = functions.initialize(initial_params, initial_variables)
        else:
            provenance, opened = record.provenance, start
            start, state, extras = latest_state(checkpoints, start, functions.shapes)
            if start != opened:  # the record of the latest checkpoint was intact but its arrays were damaged
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
    """Training loop, with everything that stays constant during a run.

    Attributes:
      config: Settings of the run.
      functions: Compiled functions.
      mesh: Mesh of the devices.
      frozen: Frozen parameters, on the devices.
      batches: Training batches from the first step of this run on.
      eval_data: Evaluation data. If None, evaluations and previews are disabled.
      log: Metrics, previews and progress bar.
      checkpoints: Checkpoints of the workdir.
      save: Starts saving a state.
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
        """Evaluates and writes a preview, each if it is due. Returns the metrics of the evaluation as eval_*."""
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
    """Returns the batch of step `start`, and an iterator over the batches from `start` on."""
    batches = data.batches(start)
    first = next(batches)
    return first, itertools.chain([first], batches)


def _write_config(config: RunConfig, workdir: epath.PathLike) -> None:
    if jax.process_index() == 0:
        workdir = epath.Path(workdir)
        workdir.mkdir(parents=True, exist_ok=True)
        files.atomic_write(workdir / CONFIG, json.dumps(config.to_json(), indent=2) + "\n")
