"""Benchmark against diffusers: text to 256 px with the same random weights of Karlo's architecture.

    python launch/benchmarks/against_diffusers.py [--width 128] [--batches 1,4] [--runs 5] [--only train]

Needs the extra `parity`. PyTorch and JAX alternate in two processes, each with all cores and, if available, with huge
pages like `unclip`. Their outputs for the same noisy inputs are compared first and must match. The benchmark then
measures the complete call with each of its stages, and a training step of the decoder (forward, backward, AdamW), in
float32. PyTorch is measured with the default memory layout of diffusers and with channels-last networks. Prints the
median, minimum and maximum without compile time, and the speedup of JAX.
"""

import argparse
import contextlib
import dataclasses
import functools
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from unclip_jax import huge_pages

PROMPT = "a corgi playing a flute trumpet"
STEPS = {"diffusion_prior": 5, "decoder": 5, "upsampler_64_to_256": 3}
SCALES = {"prior": 4.0, "decoder": 8.0}
STAGES = {"prior": "diffusion_prior", "decoder": "decoder", "super_res_first": "upsampler_64_to_256"}
TORCH_LAYOUTS = {"diffusers": "contiguous_format", "channels-last": "channels_last"}
TOLERANCE = 1e-3
# Name and number of calls per run, of which only the last one counts. A training step is measured after another one, so
# that memory has already been allocated.
PARTS = {"whole": 1, "train": 2}


def write_cascade(folder: pathlib.Path, width: int) -> None:
    """Writes Karlo with `width` channels in its decoder, `width / 2` in its upsampler, and half its prior."""
    from unclip_jax.cascades.folder_writing import StageFiles, write_stages
    from unclip_jax.kinds import kind_of
    from unclip_jax.models.network import parameter_shapes
    from unclip_jax.models.presets import preset
    from unclip_jax.pretrained.karlo.specs import decoder_spec, prior_spec, upsampler_spec
    from unclip_jax.stages.embedding_statistics import EmbeddingStatistics
    from unclip_jax.stages.spec import StageSpec
    from unclip_jax.tokenizers.clip_bpe import train_tokenizer

    train_tokenizer([PROMPT], vocab_size=600, context_length=77, directory=folder / "tokenizer")
    clip = {
        "embed_dim": 768, "image_size": None, "patch_size": None, "image_width": None, "image_layers": None,
        "image_heads": None, "vocab_size": 600, "context_length": 77, "text_width": 768, "text_layers": 6,
        "text_heads": 12,
    }  # fmt: skip
    upsampler = upsampler_spec(preset("karlo_upsampler")[1] | {"channels": width // 2}, low_res_size=64)
    specs = [
        StageSpec(name="clip", kind="clip", model=clip),
        prior_spec(preset("karlo_prior")[1] | {"width": 1024, "layers": 10, "heads": 16}),
        decoder_spec(preset("karlo_decoder")[1] | {"channels": width}),
        dataclasses.replace(upsampler, last_step_params=False),
    ]
    standard = EmbeddingStatistics(mean=np.zeros(768), std=np.ones(768))
    own = {"clip": {"tokenizer": folder / "tokenizer"}, "diffusion_prior": {"extras": standard.to_extras()}}
    rng, stages = np.random.default_rng(0), {}
    for spec in specs:
        params = random_like(parameter_shapes(kind_of(spec).build(spec, where=spec.name)), rng)
        stages[spec.name] = StageFiles(spec, params, dtype=np.float32, **own.get(spec.kind, {}))
    write_stages(folder / "cascade", stages)


def random_like(tree: Any, rng: np.random.Generator) -> Any:
    """Returns random parameters without zeros and ones that preserve the scale of activations."""
    import jax

    def draw(path, leaf) -> np.ndarray:
        x = rng.standard_normal(leaf.shape, np.float32)
        if path[-1].key == "kernel":
            return x / np.sqrt(np.prod(leaf.shape[:-1]) if len(leaf.shape) != 2 else leaf.shape[0])
        return 1 + 0.1 * x if path[-1].key == "scale" else 0.1 * x

    return jax.tree_util.tree_map_with_path(draw, tree)


def inputs(*shape: int) -> list[np.ndarray]:
    """Returns two normally distributed inputs, the same for both implementations."""
    rng = np.random.default_rng(1)
    return [rng.standard_normal((1, *shape)).astype(np.float32) for _ in range(2)]


class JaxSide:
    def __init__(self, folder: pathlib.Path):
        import unclip_jax

        self.cascade = unclip_jax.load_cascade(folder / "cascade", dtype="float32")

    def outputs(self) -> dict[str, np.ndarray]:
        """Returns the output of each network for `inputs` at timestep 500."""
        from unclip_jax.kinds.clip import text_features

        text, t = text_features(self.cascade.stages["clip"], [PROMPT]), np.array([500])
        embedding = np.linspace(-1, 1, 768, dtype=np.float32)[None]
        outputs = {}
        for part, name in STAGES.items():
            stage = self.cascade.stages[name]
            x, low_res = inputs(768) if part == "prior" else inputs(*[stage.module.image_size] * 2, 3)
            conditions = {"prior": (text,), "decoder": (embedding, text), "super_res_first": (low_res,)}[part]
            outputs[part] = np.asarray(stage.module.apply({"params": stage.params}, x, t, *conditions))
        return outputs

    def whole(self, batch: int, layout: str) -> dict[str, float]:
        import unclip_jax

        ends: dict[str, float] = {}
        start = time.perf_counter()
        unclip_jax.text_to_image(
            self.cascade, [PROMPT], count=batch, steps=STEPS, candidates=1, prior_scale=SCALES["prior"],
            decoder_scale=SCALES["decoder"], progress=lambda stage, *_: ends.update({stage: time.perf_counter()}),
        )  # fmt: skip
        return spans(start, {part: ends[name] for part, name in STAGES.items()})

    def train(self, batch: int, layout: str) -> dict[str, float]:
        import jax

        if not hasattr(self, "step"):
            self._prepare_training()
        arguments = self.batch_of(batch)
        start = time.perf_counter()
        self.params, self.state = jax.block_until_ready(self.step(self.params, self.state, *arguments))
        return {"train": time.perf_counter() - start}

    def _prepare_training(self) -> None:
        import jax
        import jax.numpy as jnp
        import optax

        from unclip_jax.kinds.clip import text_features

        stage = self.cascade.stages["decoder"]
        optimizer = optax.adamw(1e-4)
        # Copy the parameters, because the step donates its arguments. Place them like the outputs of the step, so that
        # the second call does not compile again.
        self.params = jax.device_put(jax.tree.map(np.array, stage.params), jax.local_devices()[0])
        self.state = jax.device_put(optimizer.init(self.params), jax.local_devices()[0])

        def loss(params, x, t, embedding, text):
            output = stage.module.apply({"params": params}, x, t, embedding, text)
            return jnp.mean((output[..., :3] - x) ** 2)

        def step(params, state, *batch):
            updates, state = optimizer.update(jax.grad(loss)(params, *batch), state, params)
            return optax.apply_updates(params, updates), state

        self.step = jax.jit(step, donate_argnums=(0, 1))
        text = text_features(self.cascade.stages["clip"], [PROMPT])

        def batch_of(rows: int) -> tuple:
            x = np.repeat(inputs(64, 64, 3)[0], rows, axis=0)
            repeated = jax.tree.map(lambda a: np.repeat(a, rows, axis=0), text)
            return x, np.full(rows, 500), np.zeros((rows, 768), np.float32), repeated

        self.batch_of = batch_of


class TorchSide:
    def __init__(self, folder: pathlib.Path):
        import diffusers
        import torch

        torch.set_num_threads(len(os.sched_getaffinity(0)))
        self.pipeline = diffusers.UnCLIPPipeline.from_pretrained(folder / "diffusers")
        self.pipeline.set_progress_bar_config(disable=True)
        self.text = self._text()
        self.networks = {part: getattr(self.pipeline, part) for part in (*STAGES, "super_res_last")}

    def _lay_out(self, layout: str) -> None:
        import torch

        for part in ("decoder", "super_res_first", "super_res_last"):
            self.networks[part].to(memory_format=getattr(torch, TORCH_LAYOUTS[layout]))

    def _text(self):
        """Returns the text features of the prompt."""
        import torch

        tokens = self.pipeline.tokenizer([PROMPT], padding="max_length", max_length=77, return_tensors="pt")
        with torch.no_grad():
            features = self.pipeline.text_encoder(tokens.input_ids)
        return features.text_embeds, features.last_hidden_state, tokens.attention_mask.bool()

    def _context(self, embedding, rows: int):
        import torch

        pooled, sequence, mask = (x.repeat(rows, *[1] * (x.ndim - 1)) for x in self.text)
        context, added = self.pipeline.text_proj(
            image_embeddings=embedding.repeat(rows, 1), prompt_embeds=pooled, text_encoder_hidden_states=sequence,
            do_classifier_free_guidance=False,
        )  # fmt: skip
        tokens = self.pipeline.text_proj.clip_extra_context_tokens
        return context, added, torch.nn.functional.pad(mask, (tokens, 0), value=True)

    def outputs(self) -> dict[str, np.ndarray]:
        import torch

        def channels_first(array):
            return torch.from_numpy(array).permute(0, 3, 1, 2)

        t = torch.tensor([500])
        with torch.inference_mode():
            pooled, sequence, mask = self.text
            x, _ = inputs(768)
            prior = self.networks["prior"](torch.from_numpy(x), t, pooled, sequence, mask).predicted_image_embedding
            context, added, mask = self._context(torch.linspace(-1, 1, 768)[None], 1)
            x, _ = inputs(64, 64, 3)
            decoder = self.networks["decoder"](channels_first(x), t, context, class_labels=added, attention_mask=mask)
            x, low_res = inputs(256, 256, 3)
            both = torch.cat([channels_first(x), channels_first(low_res)], dim=1)
            upsampled = self.networks["super_res_first"](both, t)
        images = {"decoder": decoder.sample, "super_res_first": upsampled.sample}
        return {"prior": prior.numpy()} | {part: x.permute(0, 2, 3, 1).numpy() for part, x in images.items()}

    def whole(self, batch: int, layout: str) -> dict[str, float]:
        import torch

        self._lay_out(layout)
        ends: dict[str, float] = {}

        def record_end(part: str, *_: object) -> None:
            ends[part.replace("_last", "_first")] = time.perf_counter()

        hooks = [
            network.register_forward_hook(functools.partial(record_end, part))
            for part, network in self.networks.items()
        ]
        start = time.perf_counter()
        steps = dict(zip(("prior", "decoder", "super_res"), STEPS.values(), strict=True))
        with torch.inference_mode():
            self.pipeline(
                [PROMPT] * batch, **{f"{part}_num_inference_steps": count for part, count in steps.items()},
                prior_guidance_scale=SCALES["prior"], decoder_guidance_scale=SCALES["decoder"], output_type="np",
            )  # fmt: skip
        for hook in hooks:
            hook.remove()
        return spans(start, ends)

    def train(self, batch: int, layout: str) -> dict[str, float]:
        import torch

        self._lay_out(layout)
        network = self.networks["decoder"].train()
        if not hasattr(self, "optimizer"):
            self.optimizer = torch.optim.AdamW([*network.parameters(), *self.pipeline.text_proj.parameters()], lr=1e-4)
        x = torch.from_numpy(inputs(64, 64, 3)[0]).permute(0, 3, 1, 2)
        x = x.repeat(batch, 1, 1, 1)
        start = time.perf_counter()
        context, added, mask = self._context(torch.zeros(1, 768), batch)
        output = network(x, torch.full((batch,), 500), context, class_labels=added, attention_mask=mask).sample
        torch.mean((output[:, :3] - x) ** 2).backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        seconds = time.perf_counter() - start
        network.eval()
        return {"train": seconds}


def spans(start: float, ends: dict[str, float]) -> dict[str, float]:
    """Returns the seconds of the complete call, and of each stage since the end of the previous one."""
    seconds, before = {}, start
    for part in STAGES:
        seconds[part], before = ends[part] - before, ends[part]
    return {"whole": time.perf_counter() - start} | seconds


def serve(kind: str, folder: pathlib.Path) -> None:
    """Reads requests as JSON lines from stdin and writes a reply for each."""
    replies = sys.stdout
    with contextlib.redirect_stdout(sys.stderr):
        side = {"jax": JaxSide, "torch": TorchSide}[kind](folder)
        for line in sys.stdin:
            request = json.loads(line)
            if request["do"] == "outputs":
                np.savez(folder / f"{kind}.npz", **side.outputs())
                reply: dict[str, Any] = {}
            else:
                reply = getattr(side, request["do"])(request["batch"], request["layout"])
            print(json.dumps(reply), file=replies, flush=True)


@contextlib.contextmanager
def served(kind: str, folder: pathlib.Path) -> Iterator[Callable[..., dict[str, float]]]:
    """Starts the process of one implementation and yields a function that sends it requests."""
    command = [sys.executable, __file__, "--serve", kind, str(folder)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, env=huge_pages.asking(os.environ), **pipes) as process:

        def ask(**request: Any) -> dict[str, float]:
            print(json.dumps(request), file=process.stdin, flush=True)
            line = process.stdout.readline()
            if not line:
                raise SystemExit(f"The {kind} process has exited.")
            return json.loads(line)

        yield ask
        process.stdin.close()


def check_agreement(folder: pathlib.Path) -> None:
    ours, theirs = (np.load(folder / f"{kind}.npz") for kind in ("jax", "torch"))
    for part in STAGES:
        error = np.max(np.abs(ours[part] - theirs[part])) / np.max(np.abs(theirs[part]))
        print(f"error    {part}: {error:.1e} of the largest output")
        if not error < TOLERANCE:
            raise SystemExit(f"The error of {part} must be below {TOLERANCE}, got {error:.1e}.")


def compare(sides: dict[str, Callable], do: str, batch: int, runs: int) -> None:
    """Measures one of PARTS with each implementation and prints a line for the whole and for each stage."""
    variants = {"jax": ("jax", ""), **{name: ("torch", name) for name in TORCH_LAYOUTS}}
    first, durations = {}, {name: [] for name in variants}
    for run in range(runs + 1):
        for name, (side, layout) in variants.items():
            done = [sides[side](do=do, batch=batch, layout=layout) for _ in range(PARTS[do])]
            if run == 0:
                first[name] = next(iter(done[0].values()))
            else:
                durations[name].append(done[-1])
    for part in durations["jax"][0]:
        seconds = {name: [run[part] for run in done] for name, done in durations.items()}
        median = {name: statistics.median(values) for name, values in seconds.items()}
        cells = "".join(
            f"{median[name]:9.2f} ({min(values):.2f} to {max(values):.2f})".rjust(26)
            for name, values in seconds.items()
        )
        ratios = "".join(f"{median[name] / median['jax']:14.2f}" for name in TORCH_LAYOUTS)
        print(f"{batch:5}  {part:16}{cells}{ratios}", flush=True)
    whole = {name: statistics.median(next(iter(run.values())) for run in done) for name, done in durations.items()}
    extra = ", ".join(f"{name} {first[name] - whole[name]:.1f} s" for name in variants)
    print(f"{batch:5}  first call minus median: {extra}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--width", type=int, default=128, help="channels of the decoder; Karlo has 320 (default: 128)")
    parser.add_argument("--batches", default="1,4", help="batch sizes, separated by commas (default: 1,4)")
    parser.add_argument(
        "--runs", type=int, default=5, help="measured runs per implementation, after one warm-up run (default: 5)"
    )
    parser.add_argument(
        "--only",
        choices=PARTS,
        help="measure only the complete call with its stages, or only the training step (default: both)",
    )
    parser.add_argument("--serve", nargs=2, metavar=("SIDE", "FOLDER"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        serve(args.serve[0], pathlib.Path(args.serve[1]))
        return

    import diffusers
    import machine
    import torch

    from unclip_jax.__main__ import main as unclip

    folder = pathlib.Path(tempfile.mkdtemp())
    try:
        write_cascade(folder, args.width)
        source, target = str(folder / "cascade"), str(folder / "diffusers")
        if unclip(["export-weights", source, "--format", "diffusers", "--out", target]) != 0:
            raise SystemExit(1)
        print(machine.header(machine.product_rate()))
        threads = len(os.sched_getaffinity(0))
        print(f"peer     diffusers {diffusers.__version__}, torch {torch.__version__}, {threads} threads")
        steps = ", ".join(f"{name} {count}" for name, count in STEPS.items())
        print(f"steps    {steps}; {args.width} channels in the decoder")
        with served("jax", folder) as jax_side, served("torch", folder) as torch_side:
            sides = {"jax": jax_side, "torch": torch_side}
            for ask in sides.values():
                ask(do="outputs")
            check_agreement(folder)
            names = "".join(f"{name}, seconds".rjust(26) for name in ("jax", *TORCH_LAYOUTS))
            print(f"\nbatch  {'':16}{names}  speedup over diffusers, channels-last")
            for batch in map(int, args.batches.split(",")):
                for do in [args.only] if args.only else PARTS:
                    compare(sides, do, batch, args.runs)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
