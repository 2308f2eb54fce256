"""Benchmark of each stage in training and sampling: speed, utilization, memory and compile time.

    python launch/benchmarks/stages.py [--cascade shapes] [--configs configs/shapes] [--only STAGE ...] [--seconds 20]

Training measures the step of the stage's config on one batch that stays in device memory, the same step with its input
pipeline ("fed"), and the pipeline alone. Sampling measures the stage of the cascade with its own settings. Each
measurement runs in a separate process, with huge pages like `unclip`. Each stage runs twice, first with an empty
compilation cache and then with the cache of the first run. FLOPs are counted by XLA. The benchmark reads only the
configs, the cascade and the data of the configs.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time

import jax
import machine
import numpy as np

from unclip_jax import experiment, huge_pages
from unclip_jax.cascades.cascade import Cascade
from unclip_jax.cascades.folder import read_specs
from unclip_jax.cascades.loading import load_cascade
from unclip_jax.cascades.sources import resolve
from unclip_jax.diffusion.timesteps import named_path
from unclip_jax.experiment.config import typed
from unclip_jax.images import height_width
from unclip_jax.kinds import kind_of
from unclip_jax.sampling.rows import SampleRequest
from unclip_jax.sharding.mesh import make_mesh
from unclip_jax.sharding.placement import place, place_batch
from unclip_jax.stages.conditions import Conditions
from unclip_jax.stages.stage import Stage
from unclip_jax.training.compiled_functions import compile_functions

PROMPT = "a small red circle on a blue background"

COLUMNS = (
    ("images/s", "speed", "{:,.1f}"),
    ("fed", "fed", "{:,.1f}"),
    ("pipeline", "pipeline", "{:,.0f}"),
    ("GFLOP/image", "gflop", "{:,.2f}"),
    ("utilization", "share", "{:.0%}"),
    ("peak MiB", "memory", "{:,.0f}"),
    ("compile s", "compile_cold", "{:.1f}"),
    ("cached s", "compile_cached", "{:.1f}"),
)


def measure_training(stage: str, args: argparse.Namespace) -> dict[str, float]:
    config = experiment.load_config(os.path.join(args.configs, f"{stage}.py"))
    for role in config.encoders:
        config.encoders[role] = args.cascade
    config = typed(config)
    rows = config.training.global_batch
    with tempfile.TemporaryDirectory() as workdir:
        parts = experiment.assemble(config, workdir)
    stream = parts.train_data.batches(0)
    batch, mesh = next(stream), make_mesh(**vars(config.mesh))
    functions = compile_functions(parts.task, config=config, frozen=parts.frozen, batch=batch, mesh=mesh)
    state, frozen = functions.initialize(), place(parts.frozen, functions.frozen_shardings)
    resident = place_batch(batch, mesh)
    start = time.perf_counter()
    train = functions.train.lower(state, frozen, resident).compile()
    compiled = time.perf_counter() - start

    def step(batch: dict) -> jax.Array:
        nonlocal state
        state, metrics = train(state, frozen, batch)
        return metrics["loss"]

    seconds = machine.mean_seconds(lambda: step(resident), min_seconds=args.seconds)
    fed = machine.mean_seconds(lambda: step(place_batch(next(stream), mesh)), min_seconds=args.seconds)
    alone = machine.mean_seconds(lambda: next(stream), min_seconds=min(args.seconds, 5.0))
    return {
        "speed": rows / seconds,
        "fed": rows / fed,
        "pipeline": rows / alone,
        "flops": machine.flops(functions.train.__wrapped__, state, frozen, resident) / rows,
        "compile": compiled,
    }


def measure_sampling(stage: str, args: argparse.Namespace) -> dict[str, float]:
    encoders = [ref.stage for ref in read_specs(resolve(args.cascade))[stage].encoders.values()]
    cascade = load_cascade(args.cascade, stages=[*encoders, stage])
    this = cascade.stages[stage]
    settings = this.spec.sampling
    request = SampleRequest(
        seed=0,
        image_ids=np.repeat(np.arange(args.rows), settings.candidates),
        candidate_ids=np.tile(np.arange(settings.candidates), args.rows),
    )

    def sample() -> np.ndarray:
        conditions = conditions_of(cascade, this, [PROMPT] * args.rows).repeat(settings.candidates)
        empty = conditions_of(cascade, this, [""])
        return kind_of(this).sample_stage(this, conditions, empty, settings=settings, request=request)

    start = time.perf_counter()
    sample()
    first = time.perf_counter() - start
    seconds = machine.best_seconds(sample, min_seconds=args.seconds)
    evaluations = len(named_path(settings.steps, this.spec.diffusion.steps)) - 1
    evaluations *= (2 if settings.guidance_scale != 1.0 else 1) * settings.candidates
    inputs = this.module.example_inputs()
    one = machine.flops(lambda params, inputs: this.module.apply({"params": params}, **inputs), this.params, inputs)
    return {"speed": args.rows / seconds, "flops": one * evaluations, "compile": first - seconds}


def conditions_of(cascade: Cascade, stage: Stage, captions: list[str]) -> Conditions:
    """Returns all conditions of a stage for N captions, with zero embeddings and low-resolution images."""
    conditions, rows = Conditions(), len(captions)
    for encoder in cascade.stages.values():
        if kind_of(encoder).encode_text is not None:
            conditions = conditions.merge(kind_of(encoder).encode_text(encoder, captions))
    if "image_embedding" in kind_of(stage).reads(stage.module):
        zeros = np.zeros((rows, stage.module.embed_dim), np.float32)
        embeddings = {ref.stage: zeros for ref in stage.spec.encoders.values()}
        conditions = conditions.merge(Conditions(image_embedding=embeddings))
    if stage.spec.low_res_size is not None:
        low_res = np.zeros((rows, *height_width(stage.spec.low_res_size), 3), np.float32)
        conditions = conditions.replace(low_res=low_res)
    return conditions


MEASURES = {"training": measure_training, "sampling": measure_sampling}


def measure(what: str, stage: str, args: argparse.Namespace, rate: float) -> dict[str, float]:
    """Measures a stage in two processes, of which the second uses the compilation cache of the first."""
    with tempfile.TemporaryDirectory() as cache:
        cold, cached = (_child(what, stage, args, cache) for _ in range(2))
    share = cached["speed"] * cached["flops"] / (rate * jax.local_device_count())
    measured = {name: cached[name] for name in ("speed", "fed", "pipeline") if name in cached}
    return measured | {
        "gflop": cached["flops"] / 1e9,
        "share": share,
        "memory": cached["memory"] / 2**20,
        "compile_cold": cold["compile"],
        "compile_cached": cached["compile"],
    }


def _child(what: str, stage: str, args: argparse.Namespace, cache: str) -> dict[str, float]:
    command = [sys.executable, __file__, "--cascade", args.cascade, "--configs", args.configs, "--measure", what, stage]
    command += ["--seconds", str(args.seconds), "--rows", str(args.rows)]
    own = {"JAX_COMPILATION_CACHE_DIR": cache, "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    environment = huge_pages.asking(os.environ | own)
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cascade", default="shapes", help="bundled name or cascade folder (default: shapes)")
    parser.add_argument("--configs", default="configs/shapes", help="configs of the stages (default: configs/shapes)")
    parser.add_argument("--only", nargs="+", metavar="STAGE", help="stages to measure (default: all)")
    parser.add_argument("--seconds", type=float, default=20.0, help="seconds per measurement (default: 20)")
    parser.add_argument("--rows", type=int, default=4, help="images per sampling call (default: 4)")
    parser.add_argument("--json", metavar="FILE", help="also write the results to this file")
    parser.add_argument("--measure", nargs=2, metavar=("WHAT", "STAGE"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        what, stage = args.measure
        print(json.dumps(MEASURES[what](stage, args) | {"memory": machine.peak_memory()}))
        return
    rate = machine.product_rate()
    print(machine.header(rate))
    specs = read_specs(resolve(args.cascade))
    stages = args.only or list(specs)
    sampled = [name for name in stages if name in specs and kind_of(specs[name]).is_sampled]
    results = {}
    for what, names in {"training": stages, "sampling": sampled}.items():
        print(f"\n{what:20}" + "".join(f"{title:>13}" for title, *_ in COLUMNS))
        for stage in names:
            measured = results[f"{what} {stage}"] = measure(what, stage, args, rate)
            cells = (form.format(measured[name]) if name in measured else "" for _, name, form in COLUMNS)
            print(f"{stage:20}" + "".join(f"{cell:>13}" for cell in cells), flush=True)
    if args.json:
        with open(args.json, "w") as file:
            json.dump(results, file, indent=1)


if __name__ == "__main__":
    main()
