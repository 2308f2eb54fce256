"""Benchmark of the CPU memory for loading a Karlo-sized cascade, beyond its parameters.

    python launch/benchmarks/loading.py [--folder DIR] [--dtype bfloat16,float32]

Writes 3.42 billion random float16 numbers (6.84 GB) as a diffusers pipeline without an image encoder, or uses the
published model or cascade in DIR, and loads it in a new process for each dtype. Prints the peak resident memory of the
process, and how much of it exceeds the parameters. Needs disk space for the weights and memory for the parameters.
"""

import argparse
import contextlib
import json
import pathlib
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from typing import Any

import numpy as np

CLIP = {
    "embed_dim": 768, "image_size": None, "patch_size": None, "image_width": None, "image_layers": None,
    "image_heads": None, "vocab_size": 49408, "context_length": 77, "text_width": 768, "text_layers": 12,
    "text_heads": 12,
}  # fmt: skip
GB = 1e9


def write_karlo(folder: pathlib.Path) -> None:
    """Writes a diffusers folder with random Karlo-sized weights, one component at a time."""
    from safetensors import numpy as safetensors_numpy

    from unclip_jax.pretrained.karlo.export import pipeline_index, scheduler_part
    from unclip_jax.pretrained.karlo.specs import DECODER_DIFFUSION, PRIOR_DIFFUSION, UPSAMPLER_DIFFUSION

    values = (0.02 * np.random.default_rng(0).standard_normal(2**20)).astype(np.float16)
    for name, part in parts():
        (folder / name).mkdir()
        (folder / name / "config.json").write_text(json.dumps(dict(part.config)))
        tensors = {tensor: np.resize(values, zeros.shape) for tensor, zeros in part.tensors.items()}
        safetensors_numpy.save_file(tensors, folder / name / "diffusion_pytorch_model.safetensors")
    diffusion_of = {"prior": PRIOR_DIFFUSION, "decoder": DECODER_DIFFUSION, "super_res": UPSAMPLER_DIFFUSION}
    for name, diffusion in diffusion_of.items():
        (folder / f"{name}_scheduler").mkdir()
        config = scheduler_part(name, diffusion).config
        (folder / f"{name}_scheduler" / "scheduler_config.json").write_text(json.dumps(dict(config)))
    write_tokenizer(folder / "tokenizer")
    (folder / "model_index.json").write_text(json.dumps(pipeline_index(["prior"])))


def parts() -> Iterator[tuple[str, Any]]:
    """Yields each component: the name of its folder, and its configuration with tensors of zeros."""
    from unclip_jax.kinds import KINDS
    from unclip_jax.models.network import build, fields_of
    from unclip_jax.models.presets import preset
    from unclip_jax.pretrained.clip.export import text_encoder_part
    from unclip_jax.pretrained.karlo import export
    from unclip_jax.stages.embedding_statistics import EmbeddingStatistics

    def of(make, kind, fields, *arguments):
        module = build(KINDS.choose(kind).network, fields)
        return make(fields_of(module), zeros(module), *arguments)

    yield "text_encoder", of(text_encoder_part, "clip", CLIP)
    statistics = EmbeddingStatistics(mean=np.zeros(768, np.float32), std=np.ones(768, np.float32))
    yield "prior", of(export.prior_part, *preset("karlo_prior"), statistics)
    yield from zip(("decoder", "text_proj"), of(export.decoder_parts, *preset("karlo_decoder")), strict=True)
    for name in ("super_res_first", "super_res_last"):
        yield name, of(export.upsampler_part, *preset("karlo_upsampler"))


def zeros(module: Any) -> Any:
    """Returns the parameters of a network as zeros that are broadcast and take no memory."""
    import jax

    from unclip_jax.models.network import parameter_shapes

    return jax.tree.map(lambda leaf: np.broadcast_to(np.float16(0), leaf.shape), parameter_shapes(module))


def write_tokenizer(folder: pathlib.Path) -> None:
    """Writes a tokenizer with CLIP's vocabulary size and no merges."""
    start, end = "<|startoftext|>", "<|endoftext|>"
    tokens = [*(f"token{index}" for index in range(CLIP["vocab_size"] - 2)), start, end]
    names = {"bos_token": start, "eos_token": end, "unk_token": end, "pad_token": end}
    config = {"tokenizer_class": "CLIPTokenizer", "model_max_length": CLIP["context_length"], **names}
    folder.mkdir()
    (folder / "vocab.json").write_text(json.dumps({token: index for index, token in enumerate(tokens)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    (folder / "tokenizer_config.json").write_text(json.dumps(config))


def measure(folder: str, dtype: str) -> None:
    """Loads a cascade and prints its memory. Must run in a new process."""
    import jax

    jax.config.update("jax_platforms", "cpu")
    import unclip_jax

    before = peak_resident()
    cascade = unclip_jax.load_cascade(folder, devices=jax.local_devices()[:1], dtype=dtype)
    peak = peak_resident()
    leaves = [array for stage in cascade.stages.values() for array in stage.device_arrays()]
    held = sum(leaf.nbytes for leaf in leaves) / GB
    print(
        f"{dtype:8}  {sum(leaf.size for leaf in leaves) / GB:.3f} billion parameters, {held:.2f} GB; peak "
        f"{peak:.2f} GB resident, {peak - held:.2f} GB beyond the parameters, of which {before:.2f} GB before loading",
        flush=True,
    )


def peak_resident() -> float:
    """Returns the peak resident memory of this process in GB, which includes mapped files."""
    lines = pathlib.Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024 / GB


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", metavar="DIR", help="published model or cascade (default: random weights)")
    parser.add_argument(
        "--dtype", default="bfloat16,float32", help="dtypes, separated by commas (default: bfloat16,float32)"
    )
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        return measure(*args.measure)

    import machine

    print(machine.header(machine.product_rate()))
    with contextlib.ExitStack() as stack:
        folder = args.folder or stack.enter_context(tempfile.TemporaryDirectory(dir="."))
        if args.folder is None:
            write_karlo(pathlib.Path(folder))
        for dtype in args.dtype.split(","):
            subprocess.run([sys.executable, __file__, "--measure", folder, dtype], check=True)


if __name__ == "__main__":
    main()
