"""How much memory opening a Karlo takes beyond that of its parameters, on this machine's CPU.

    python launch/benchmarks/loading.py [--folder DIR] [--dtype bfloat16,float32]

Writes 3.42 billion random numbers, 6.84 GB of float16, as diffusers' pipeline (of image embeddings by text alone), or
takes the published model or cascade in DIR, and opens it in a fresh process for each type. Printed are the largest
resident memory that the system counted for that process, and what of it is not the parameters. Needs as much disk, and
memory for the parameters.
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
    """Diffusers' folder of a Karlo with random weights, one part in memory at a time."""
    from safetensors import numpy as safetensors_numpy

    from unclip_jax.pretrained.karlo.export import pipeline_index, scheduler_part
    from unclip_jax.pretrained.karlo.specs import DECODER_DIFFUSION, PRIOR_DIFFUSION, UPSAMPLER_DIFFUSION

    numbers = (0.02 * np.random.default_rng(0).standard_normal(2**20)).astype(np.float16)
    for name, part in parts():
        (folder / name).mkdir()
        (folder / name / "config.json").write_text(json.dumps(dict(part.config)))
        drawn = {tensor: np.resize(numbers, zeros.shape) for tensor, zeros in part.tensors.items()}
        safetensors_numpy.save_file(drawn, folder / name / "diffusion_pytorch_model.safetensors")
    diffusion_of = {"prior": PRIOR_DIFFUSION, "decoder": DECODER_DIFFUSION, "super_res": UPSAMPLER_DIFFUSION}
    for name, diffusion in diffusion_of.items():
        (folder / f"{name}_scheduler").mkdir()
        config = scheduler_part(name, diffusion).config
        (folder / f"{name}_scheduler" / "scheduler_config.json").write_text(json.dumps(dict(config)))
    write_tokenizer(folder / "tokenizer")
    (folder / "model_index.json").write_text(json.dumps(pipeline_index(["prior"])))


def parts() -> Iterator[tuple[str, Any]]:
    """(name of the folder, its configuration and tensors of zeros)."""
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
    yield from zip(("decoder", "text_proj"), of(export.decoder_parts, *preset("karlo_decoder")))
    for name in ("super_res_first", "super_res_last"):
        yield name, of(export.upsampler_part, *preset("karlo_upsampler"))


def zeros(module: Any) -> Any:
    """The parameters of a network as zeros that take no memory."""
    import jax

    from unclip_jax.models.network import parameter_shapes

    return jax.tree.map(lambda leaf: np.broadcast_to(np.float16(0), leaf.shape), parameter_shapes(module))


def write_tokenizer(folder: pathlib.Path) -> None:
    """One of CLIP's size, that knows no words."""
    marks = ["<|startoftext|>", "<|endoftext|>"]
    tokens = [f"token{number}" for number in range(CLIP["vocab_size"] - 2)] + marks
    names = {"bos_token": marks[0], "eos_token": marks[1], "unk_token": marks[1], "pad_token": marks[1]}
    config = {"tokenizer_class": "CLIPTokenizer", "model_max_length": CLIP["context_length"], **names}
    folder.mkdir()
    (folder / "vocab.json").write_text(json.dumps({token: number for number, token in enumerate(tokens)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    (folder / "tokenizer_config.json").write_text(json.dumps(config))


def measure(folder: str, dtype: str) -> None:
    """In a fresh process: opens the folder and prints the line."""
    import jax

    jax.config.update("jax_platforms", "cpu")
    import unclip_jax

    before = largest_resident()
    cascade = unclip_jax.load_cascade(folder, devices=jax.local_devices()[:1], dtype=dtype)
    largest = largest_resident()
    leaves = [array for stage in cascade.stages.values() for array in stage.device_arrays()]
    held = sum(leaf.nbytes for leaf in leaves) / GB
    print(
        f"{dtype:8}  {sum(leaf.size for leaf in leaves) / GB:.3f} billion parameters, {held:.2f} GB; at most "
        f"{largest:.2f} GB resident, {largest - held:.2f} GB beyond them, of which {before:.2f} GB before",
        flush=True,
    )


def largest_resident() -> float:
    """GB that this process has held at most, by Linux's count: mapped files are in it."""
    lines = pathlib.Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024 / GB


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", metavar="DIR", help="a published model or a cascade, in place of random weights")
    parser.add_argument("--dtype", default="bfloat16,float32", help="types, one after the other (default: both)")
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
