"""Invalid input to every command: exit code 2, a one-line message, and no files written.

Arguments of a single command are tested in tests/commands. This file covers what can be wrong for every command: types,
ranges, names, files of another format, corrupt folders, and paths that cannot be read or written.
"""

import json
import pathlib
import shutil

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file, save_file

from tests.cascades.tiny import write_tiny_cascade
from tests.commands.test_package import TINY
from unclip_jax.__main__ import main

CONFIGS = pathlib.Path(__file__).parents[1] / "configs/shapes"
TRAIN = [
    "training.steps=1", "training.global_batch=8", "training.eval_every=0", "training.preview_every=0",
    "data.source=captioned_shapes/tiny", "data.threads=0",
]  # fmt: skip


@pytest.fixture(scope="module")
def world(tmp_path_factory, on_one_device):
    """A folder with an intact cascade, a trained workdir, and corrupt variants of them."""
    world = tmp_path_factory.mktemp("world")
    write_tiny_cascade(world / "whole")
    for name, damage in CORRUPT_CASCADES.items():
        shutil.copytree(world / "whole", world / name)
        damage(world / name)
    fields = [f"--config.{field}" for field in (*TINY["upsampler_16_to_64"], *TRAIN)]
    with on_one_device():
        assert main(["train", f"--config={CONFIGS}/upsampler_16_to_64.py", f"--workdir={world}/run", *fields]) == 0
    shutil.copytree(world / "run", world / "run_corrupt")
    for path in (world / "run_corrupt/checkpoints").rglob("*"):
        if path.is_file():
            path.write_bytes(path.read_bytes()[:10])
    (world / "file").write_text("not a folder")
    (world / "empty").mkdir()
    (world / "words.json").write_text("[1, 2]")
    (world / "broken.py").write_text("def get_config(:\n")
    (world / "raises.py").write_text("def get_config():\n    return undefined\n")
    (world / "number.py").write_text("def get_config():\n    return 3\n")
    write_image_folders(world)
    return world


def write_image_folders(world):
    for folder in ("plain", "no_captions", "small", "invalid"):
        (world / folder).mkdir()
        for index in range(40):
            side = 8 if folder == "small" else 64
            path = world / folder / f"{index}.png"
            Image.new("RGB", (side, side), (index, 0, 0)).save(path)
            if folder != "no_captions":
                path.with_suffix(".txt").write_text(f"number {index}")
            if folder == "invalid":
                path.write_bytes(b"GIF89a, or so it says")


def edit(name, change):
    def damage(cascade):
        path = cascade / name
        content = json.loads(path.read_text())
        change(content)
        path.write_text(json.dumps(content))

    return damage


def tensors(change):
    def damage(cascade):
        path = cascade / "decoder/params.safetensors"
        arrays = load_file(path)
        change(arrays)
        save_file(arrays, path)

    return damage


def first(arrays):
    return sorted(arrays)[0]


CORRUPT_CASCADES = {
    "no_index": lambda cascade: (cascade / "cascade.json").unlink(),
    "index_is_list": lambda cascade: (cascade / "cascade.json").write_text("[]"),
    "index_is_cut": lambda cascade: (cascade / "cascade.json").write_text('{"schema": 1, "sta'),
    "index_of_the_future": edit("cascade.json", lambda index: index.update(schema=99)),
    "stage_gone": lambda cascade: shutil.rmtree(cascade / "decoder"),
    "no_statistics": lambda cascade: (cascade / "diffusion_prior/extras.safetensors").unlink(),
    "unknown_kind": edit("decoder/config.json", lambda config: config.update(kind="vae")),
    "unknown_field": edit("decoder/config.json", lambda config: config["model"].update(chanels=3)),
    "no_sampling": edit("decoder/config.json", lambda config: config.pop("sampling")),
    "unknown_sampler": edit("decoder/config.json", lambda config: config["sampling"].update(sampler="euler")),
    "unknown_schedule": edit("decoder/config.json", lambda config: config["diffusion"].update(schedule="cubic")),
    "weights_gone": lambda cascade: (cascade / "decoder/params.safetensors").unlink(),
    "weights_cut": lambda cascade: (cascade / "decoder/params.safetensors").write_bytes(b"\x10\x00\x00"),
    "weights_are_pickle": lambda cascade: (cascade / "decoder/params.safetensors").write_bytes(b"\x80\x04cos\n"),
    "tensor_gone": tensors(lambda arrays: arrays.pop(first(arrays))),
    "tensor_too_many": tensors(lambda arrays: arrays.update(extra=np.zeros(3, np.float16))),
    "tensor_misshapen": tensors(lambda arrays: arrays.update({first(arrays): np.zeros((1, 2, 3), np.float16)})),
    "no_tokenizer": lambda cascade: shutil.rmtree(cascade / "clip/tokenizer"),
    "tokenizer_cut": lambda cascade: (cascade / "clip/tokenizer/vocab.json").write_text('{"a": '),
}
GENERATE = ["generate", "a red circle", "--cascade"]
CASCADE_MESSAGES = {
    "no_index": "is neither a folder with a cascade.json nor a known published model. Known: Karlo (",
    "index_is_list": "must contain a JSON object",
    "index_is_cut": "cannot be read as JSON",
    "index_of_the_future": "schema must be at most 2, got 99",
    "stage_gone": "decoder/config.json' cannot be read",
    "no_statistics": "diffusion_prior/extras.safetensors",
    "unknown_kind": "Unknown stage kind 'vae' in stage 'decoder'. Available: clip",
    "unknown_field": "has no field chanels. Available: ",
    "no_sampling": "lacks sampling",
    "unknown_sampler": "sampler of decoder must be one of ddpm, ddim, dpm, got 'euler'",
    "unknown_schedule": "'cubic'",
    "weights_gone": "params.safetensors",
    "weights_cut": "params.safetensors",
    "weights_are_pickle": "params.safetensors",
    "tensor_gone": "Missing: ",
    "tensor_too_many": "Unexpected: extra",
    "tensor_misshapen": "Wrong shape: ",
    "no_tokenizer": "tokenizer",
    "tokenizer_cut": "tokenizer",
}


def train(*fields, config=CONFIGS / "upsampler_16_to_64.py", workdir="new"):
    fields = [f"--config.{field}" for field in (*TINY["upsampler_16_to_64"], *TRAIN, *fields)]
    return ["train", f"--config={config}", f"--workdir={workdir}", *fields]


def prior(*fields):
    fields = [f"--config.{field}" for field in (*TRAIN, *fields)]
    return ["train", f"--config={CONFIGS / 'diffusion_prior.py'}", "--workdir=new", *fields]


WHOLE = [*GENERATE, "whole"]
CASES = {
    # Names
    "no command": ([], "the following arguments are required: COMMAND"),
    "unknown command": (["generat", "x"], "invalid choice: 'generat'"),
    "unknown flag": (["generate", "x", "--sed", "1"], "unknown argument --sed 1 (did you mean --seed?)"),
    "abbreviated flag": (["generate", "x", "--see", "1"], "unknown argument --see 1"),
    "unknown cascade": (
        [*GENERATE, "shape"],
        "cascade must be a bundled cascade or a cascade folder, got 'shape'.",
    ),
    "unknown stage of steps": ([*WHOLE, "--steps", "decodr=3"], "decodr"),
    "unknown stage of sampler": ([*WHOLE, "--sampler", "decodr=ddim"], "decodr"),
    "unknown sampler": ([*WHOLE, "--sampler", "decoder=euler"], "sampler of decoder must be one of ddpm"),
    "unknown path": ([*WHOLE, "--steps", "decoder=slow27"], "slow27"),
    "unknown setting": ([*WHOLE, "--sampling", "decoder.etta=1"], "has no field etta. Available: sampler, steps, "),
    "unknown variance": ([*WHOLE, "--sampling", "decoder.variance=fixed"], "variance of decoder must be one of"),
    "unknown suite": (["evaluate", "--suite", "coco"], "Unknown suite 'coco' in --suite. Available: shapes"),
    "unknown row": (["evaluate", "--rows", "one_objekt"], "one_objekt"),
    "unknown data": (["prepare-data", "coco"], "invalid choice: 'coco'"),
    "unknown accelerator": (["doctor", "--expect", "npu"], "invalid choice: 'npu'"),
    "unknown config field": (train("optimizer.lr=1"), "config.optimizer has no field 'lr'. Available: "),
    "unknown config section": (train("optimiser.b1=1"), "config has no field 'optimiser'. Available: "),
    "unknown source": (train("data.source=laion"), "config.data.source must be one of captioned_shapes, "),
    "unknown image field": (train("data.image_field=picture"), "image_field must be image or thumbnail with source"),
    "unknown schedule": (train("diffusion.schedule=cubic"), "'cubic'"),
    "unknown prediction": (train("diffusion.predicts=noise"), "'noise'"),
    "unknown learning-rate schedule": (train("optimizer.schedule=step"), "'step'"),
    "unknown dtype": (train("training.dtype=float8"), "'float8'"),
    "unknown split": (train("data.split=validation"), "validation"),
    # Types and ranges
    "no prompt": (["generate", "--cascade", "whole"], "is text-conditional. Pass prompts instead of class labels"),
    "class label for a text-conditional cascade": (
        ["generate", "--class", "1", "--cascade", "whole"],
        "is text-conditional.",
    ),
    "prompt and class": ([*WHOLE, "--class", "1"], "got both prompt 'a red circle' and --class 1. Pass one or"),
    "temperature is zero": ([*WHOLE, "--sampling", "decoder.temperature=0"], "temperature of decoder must be positive"),
    "count is a word": ([*WHOLE, "--count", "many"], "invalid int value: 'many'"),
    "count is zero": ([*WHOLE, "--count", "0"], "count"),
    "seed is negative": ([*WHOLE, "--seed", "-1"], "seed"),
    "first image is negative": ([*WHOLE, "--first-image", "-3"], "first_image"),
    "steps without stage": ([*WHOLE, "--steps", "50"], "--steps must consist of STAGE=VALUE pairs, such as decoder=50"),
    "steps are zero": ([*WHOLE, "--steps", "decoder=0"], "steps of decoder must be between 1 and 1000, got 0"),
    "more steps than the schedule": ([*WHOLE, "--steps", "decoder=1001"], "between 1 and 1000, got 1001"),
    "scale is not a number": (
        [*WHOLE, "--decoder-scale", "nan"],
        "scale of decoder must be a finite number, got nan",
    ),
    "scale is a word": ([*WHOLE, "--decoder-scale", "strong"], "invalid float value: 'strong'"),
    "eta above one": ([*WHOLE, "--sampling", "decoder.eta=2"], "eta of decoder must be in [0, 1], got 2"),
    "threshold above 100": ([*WHOLE, "--sampling", "decoder.threshold=101"], "must be a percentile"),
    "interval is reversed": ([*WHOLE, "--sampling", "decoder.guidance_interval=9,3"], "guidance_interval of"),
    "zero candidates": ([*WHOLE, "--candidates", "0"], "candidates"),
    "setting without a value": ([*WHOLE, "--sampling", "decoder.eta"], "--sampling must be STAGE.FIELD=VALUE"),
    "empty prompt": (["generate", "", "--cascade", "whole"], "empty"),
    "blank prompt": (["generate", " \t", "--cascade", "whole"], "empty"),
    "too few prompts for a row": (["evaluate", "--prompts", "1"], "--prompts must be at least 2, got 1."),
    "seed of the suite is negative": (["evaluate", "--seed", "-1"], "--seed must be from 0 to 4294967295, got -1."),
    "empty batch": (train("training.global_batch=0"), "global_batch"),
    "batch is not divisible": (train("training.global_batch=12"), "must be a positive multiple of 8 (mesh"),
    "batch is not divisible by micro-batches": (train("training.micro_batches=3"), "3 micro-batches"),
    "steps of training are negative": (train("training.steps=-1"), "training.steps"),
    "mesh with too many devices": (train("mesh.fsdp=16"), "fsdp=16"),
    "mesh without devices": (train("mesh.data=0"), "data=0"),
    "batch is a word": (train("training.global_batch=big"), "global_batch must be an integer, got 'big'"),
    "decay above one": (train("training.ema_decay=1.5"), "ema_decay"),
    "too many levels for the image size": (train("model.channel_mult=(1,)*9"), "channel_mult"),
    "channels are not divisible by groups": (train("model.groups=7"), "groups must divide the 16 channels"),
    "crop is not a whole number of pixels": (
        train("data.crop_fraction=0.3"),
        "crop_fraction must give a whole number of pixels from 1 to 64",
    ),
    "image size is not divisible by low resolution": (
        train("data.low_res_size=15"),
        "low_res_size must divide image_size 64",
    ),
    "even blur kernel": (train("data.blur.kernel=4"), "kernel"),
    "fraction above one": (train("data.bsr=1.5"), "config.data.bsr must be in [0, 1], got 1.5"),
    "images smaller than required by the network": (
        train("model.image_size=512", "data.image_size=512", "data.low_res_size=128"),
        "512",
    ),
    "network of another image size": (
        train("model.image_size=32"),
        "config.model.image_size must be config.data.image_size",
    ),
    # Files of another format, and paths
    "config is missing": (train(config="none.py"), "with get_config(), but 'none.py' does not exist."),
    "config is a folder": (train(config="empty"), "empty"),
    "config cannot be parsed": (train(config="broken.py"), "broken.py"),
    "config raises": (train(config="raises.py"), "undefined"),
    "config returns a number": (train(config="number.py"), "number.py"),
    "workdir is a file": (train(workdir="file"), "file"),
    "workdir below a file": (train(workdir="file/new"), "file"),
    "weights are missing": (train("training.init_from=nowhere"), "the folder of a stage in a cascade, got 'nowhere'"),
    "weights of a corrupt run": (train("training.init_from=run_corrupt"), "run_corrupt"),
    "weights of another network": (train("training.init_from=whole/decoder"), "do not match the network"),
    "frozen CLIP is missing": (prior("encoders.clip=nowhere"), "bundled cascade or a cascade folder, got 'nowhere'"),
    "frozen CLIP is another stage": (prior("encoders.clip=whole/decoder"), "clip"),
    "prior that predicts noise": (prior("diffusion.predicts=eps"), "diffusion.predicts of diffusion_prior must be"),
    "image folder is not set": (train("data.source=folder"), "data.dir must be a folder of images with captions"),
    "image folder is missing": (train("data.source=folder", "data.dir=none"), "must be a folder of images, got 'none'"),
    "image folder is empty": (train("data.source=folder", "data.dir=empty"), "has no images"),
    "images without captions": (train("data.source=folder", "data.dir=no_captions"), "have no .txt file of the same"),
    "images that are too small": (train("data.source=folder", "data.dir=small"), "is 8 px, smaller than the required"),
    "image files without image data": (train("data.source=folder", "data.dir=invalid"), "records"),
    "embeddings are missing": (prior("data.source=embeddings", "data.dir=empty"), "contains no embeddings"),
    "embeddings into an existing folder": (
        ["prepare-data", "embeddings", f"--config={CONFIGS / 'diffusion_prior.py'}", "--out=empty"],
        "already exists. Embeddings must be written to a new folder",
    ),
    "embeddings without CLIP": (
        ["prepare-data", "embeddings", f"--config={CONFIGS / 'upsampler_16_to_64.py'}", "--out=new"],
        "config.encoders must contain an image encoder.",
    ),
    "import of a cascade": (["import-weights", "whole", "--out", "new"], "must be a published model, got a cascade"),
    "package nothing": (["package", "--out", "new"], "Pass at least one WORKDIR or --clip."),
    "package a missing workdir": (["package", "nowhere", "--out", "new"], "nowhere"),
    "package a corrupt run": (["package", "run_corrupt", "--out", "new"], "run_corrupt"),
    "package into a file": (["package", "run", "--out", "file"], "file"),
    "image in a file instead of a folder": ([*WHOLE, "--out", "file/x.png"], "'file' is not a folder."),
    "image in a missing folder": ([*WHOLE, "--out", "none/x.png"], "'none' does not exist."),
    "image of another format": ([*WHOLE, "--out", "x.jpg"], "--out must end in .png or be a folder"),
    "images into a file": ([*WHOLE, "--out", "file"], "cannot be written"),
    "results into a folder": (
        ["evaluate", "--cascade", "whole", "--json", "empty"],
        "--json must be a file, got the folder 'empty'",
    ),
    "results in a file instead of a folder": (
        ["evaluate", "--cascade", "whole", "--json", "file/x"],
        "in an existing, writable folder",
    ),
    "data in a file instead of a folder": (["prepare-data", "shapes", "--size", "tiny", "--dir", "file/x"], "file/x"),
    **{f"cascade: {name}": ([*GENERATE, name], message) for name, message in CASCADE_MESSAGES.items()},
}


def listing(world):
    return sorted((str(path), path.stat().st_size) for path in world.rglob("*"))


@pytest.mark.parametrize("case", CASES)
def test_invalid_input_prints_one_line_exits_with_2_and_writes_nothing(case, world, monkeypatch, capfd):
    argv, message = CASES[case]
    monkeypatch.chdir(world)
    before = listing(world)
    capfd.readouterr()
    try:
        code = main(argv)
    except SystemExit as exit:
        code = exit.code
    err = capfd.readouterr().err
    assert code == 2, err
    assert message in err and err.count("\n") == 1 and err.endswith("\n"), err
    assert listing(world) == before


def test_all_corrupt_cascades_have_a_case():
    assert len(CASES) >= 60 and set(CASCADE_MESSAGES) == set(CORRUPT_CASCADES)
