"""Wrong input to every command: exit code 2, one line that says what is wrong, and nothing written.

What each command says of its own arguments is tested beside it; here are the ways in which input is wrong anywhere:
types, ranges, names, files that are not what they say, damaged folders, places that cannot be read or written.
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
    """A folder with a whole cascade, a trained workdir, and everything that is wrong with others like them."""
    world = tmp_path_factory.mktemp("world")
    write_tiny_cascade(world / "whole")
    for name, damage in DAMAGED_CASCADES.items():
        shutil.copytree(world / "whole", world / name)
        damage(world / name)
    fields = [f"--config.{field}" for field in (*TINY["upsampler_16_to_64"], *TRAIN)]
    with on_one_device():
        assert main(["train", f"--config={CONFIGS}/upsampler_16_to_64.py", f"--workdir={world}/run", *fields]) == 0
    shutil.copytree(world / "run", world / "run_damaged")
    for path in (world / "run_damaged/checkpoints").rglob("*"):
        if path.is_file():
            path.write_bytes(path.read_bytes()[:10])
    (world / "file").write_text("not a folder")
    (world / "empty").mkdir()
    (world / "words.json").write_text("[1, 2]")
    (world / "broken.py").write_text("def get_config(:\n")
    (world / "raises.py").write_text("def get_config():\n    return undefined\n")
    (world / "number.py").write_text("def get_config():\n    return 3\n")
    write_pictures(world)
    return world


def write_pictures(world):
    for folder in ("plain", "no_captions", "small", "lies"):
        (world / folder).mkdir()
        for number in range(40):
            side = 8 if folder == "small" else 64
            path = world / folder / f"{number}.png"
            Image.new("RGB", (side, side), (number, 0, 0)).save(path)
            if folder != "no_captions":
                path.with_suffix(".txt").write_text(f"number {number}")
            if folder == "lies":
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


DAMAGED_CASCADES = {
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
DRAWN = ["generate", "a red circle", "--cascade"]
SAID_OF_CASCADES = {
    "no_index": "is neither a folder with a cascade.json nor a known published model. Known: Karlo (",
    "index_is_list": "holds no JSON object",
    "index_is_cut": "cannot be read as JSON",
    "index_of_the_future": "has schema 99 and must have 2",
    "stage_gone": "decoder/config.json' cannot be read",
    "no_statistics": "diffusion_prior/extras.safetensors",
    "unknown_kind": "Unknown stage kind 'vae' in stage 'decoder'. Available: clip",
    "unknown_field": "has no field chanels; known: ",
    "no_sampling": "lacks sampling",
    "unknown_sampler": "sampler of decoder is 'euler'; known: ddpm, ddim, dpm",
    "unknown_schedule": "'cubic'",
    "weights_gone": "params.safetensors",
    "weights_cut": "params.safetensors",
    "weights_are_pickle": "params.safetensors",
    "tensor_gone": "missing: ",
    "tensor_too_many": "left over: extra",
    "tensor_misshapen": "of another shape: ",
    "no_tokenizer": "tokenizer",
    "tokenizer_cut": "tokenizer",
}


def train(*fields, config=CONFIGS / "upsampler_16_to_64.py", workdir="new"):
    fields = [f"--config.{field}" for field in (*TINY["upsampler_16_to_64"], *TRAIN, *fields)]
    return ["train", f"--config={config}", f"--workdir={workdir}", *fields]


def prior(*fields):
    fields = [f"--config.{field}" for field in (*TRAIN, *fields)]
    return ["train", f"--config={CONFIGS / 'diffusion_prior.py'}", "--workdir=new", *fields]


WHOLE = [*DRAWN, "whole"]
WRONG = {
    # Names
    "no command": ([], "the following arguments are required: COMMAND"),
    "unknown command": (["generat", "x"], "invalid choice: 'generat'"),
    "unknown flag": (["generate", "x", "--sed", "1"], "unknown argument --sed 1 (did you mean --seed?)"),
    "flag cut short": (["generate", "x", "--see", "1"], "unknown argument --see 1"),
    "unknown cascade": ([*DRAWN, "shape"], "cascade 'shape' is no folder with a cascade.json and not bundled; known:"),
    "unknown stage of steps": ([*WHOLE, "--steps", "decodr=3"], "decodr"),
    "unknown stage of sampler": ([*WHOLE, "--sampler", "decodr=ddim"], "decodr"),
    "unknown sampler": ([*WHOLE, "--sampler", "decoder=euler"], "sampler of decoder is 'euler'; known: ddpm"),
    "unknown path": ([*WHOLE, "--steps", "decoder=slow27"], "slow27"),
    "unknown setting": ([*WHOLE, "--sampling", "decoder.etta=1"], "names etta; known: sampler, steps, guidance_scale"),
    "unknown variance": ([*WHOLE, "--sampling", "decoder.variance=fixed"], "variance of decoder is 'fixed'; known:"),
    "unknown suite": (["evaluate", "--suite", "coco"], "Unknown suite 'coco' in --suite. Available: shapes"),
    "unknown row": (["evaluate", "--rows", "one_objekt"], "one_objekt"),
    "unknown data": (["prepare-data", "coco"], "invalid choice: 'coco'"),
    "unknown accelerator": (["doctor", "--expect", "npu"], "invalid choice: 'npu'"),
    "unknown config field": (train("optimizer.lr=1"), "config.optimizer has no field 'lr'; known:"),
    "unknown config section": (train("optimiser.b1=1"), "config has no field 'optimiser'; known:"),
    "unknown source": (train("data.source=laion"), "config.data.source must be one of captioned_shapes, "),
    "unknown image field": (train("data.image_field=picture"), "image_field must be image or thumbnail with source"),
    "unknown schedule": (train("diffusion.schedule=cubic"), "'cubic'"),
    "unknown prediction": (train("diffusion.predicts=noise"), "'noise'"),
    "unknown learning-rate schedule": (train("optimizer.schedule=step"), "'step'"),
    "unknown dtype": (train("training.dtype=float8"), "'float8'"),
    "unknown split": (train("data.split=validation"), "validation"),
    # Types and ranges
    "no prompt": (["generate", "--cascade", "whole"], "draws what a prompt says; give it prompts, and no classes"),
    "class of a cascade without": (["generate", "--class", "1", "--cascade", "whole"], "draws what a prompt says"),
    "prompt and class": ([*WHOLE, "--class", "1"], "--class 1 and prompt 'a red circle' are given; one sort is wanted"),
    "temperature is zero": ([*WHOLE, "--sampling", "decoder.temperature=0"], "temperature of decoder is 0; it must be"),
    "count is a word": ([*WHOLE, "--count", "many"], "invalid int value: 'many'"),
    "count is zero": ([*WHOLE, "--count", "0"], "count"),
    "seed is negative": ([*WHOLE, "--seed", "-1"], "seed"),
    "first image is negative": ([*WHOLE, "--first-image", "-3"], "first_image"),
    "steps without stage": ([*WHOLE, "--steps", "50"], "--steps '50': '50' is no pair STAGE=VALUE, such as decoder=50"),
    "steps are zero": ([*WHOLE, "--steps", "decoder=0"], "steps of decoder is 0; it must be from 1 to 1000"),
    "more steps than the schedule": ([*WHOLE, "--steps", "decoder=1001"], "steps of decoder is 1001; it must be from"),
    "scale is no number": ([*WHOLE, "--decoder-scale", "nan"], "scale of decoder is nan; it must be a finite number"),
    "scale is a word": ([*WHOLE, "--decoder-scale", "strong"], "invalid float value: 'strong'"),
    "eta above one": ([*WHOLE, "--sampling", "decoder.eta=2"], "eta of decoder is 2; it must be from 0 to 1"),
    "threshold above all": ([*WHOLE, "--sampling", "decoder.threshold=101"], "threshold of decoder is 101"),
    "interval is upside down": ([*WHOLE, "--sampling", "decoder.guidance_interval=9,3"], "guidance_interval of"),
    "candidates are none": ([*WHOLE, "--candidates", "0"], "candidates"),
    "setting without a value": ([*WHOLE, "--sampling", "decoder.eta"], "'decoder.eta' is not STAGE.FIELD=VALUE"),
    "empty prompt": (["generate", "", "--cascade", "whole"], "empty"),
    "blank prompt": (["generate", " \t", "--cascade", "whole"], "empty"),
    "one prompt for a row": (["evaluate", "--prompts", "1"], "--prompts must be at least 2, got 1."),
    "seed of the suite": (["evaluate", "--seed", "-1"], "--seed must be from 0 to 4294967295, got -1."),
    "batch of no rows": (train("training.global_batch=0"), "global_batch"),
    "batch that does not divide": (train("training.global_batch=12"), "does not divide among 8 devices"),
    "micro-batches that do not divide": (train("training.micro_batches=3"), "3 micro-batches"),
    "steps of training are negative": (train("training.steps=-1"), "training.steps"),
    "mesh of too many devices": (train("mesh.fsdp=16"), "fsdp=16"),
    "mesh of no devices": (train("mesh.data=0"), "data=0"),
    "batch is a word": (train("training.global_batch=big"), "global_batch must be an integer, got 'big'"),
    "decay of one": (train("training.ema_decay=1.5"), "ema_decay"),
    "side that cannot be halved": (train("model.channel_mult=(1,)*9"), "channel_mult"),
    "groups that do not divide": (train("model.groups=7"), "groups 7 does not divide the 16 channels"),
    "crop of no whole pixels": (train("data.crop_fraction=0.3"), "crop_fraction of image_size 64 must give a whole"),
    "low resolution that does not divide": (train("data.low_res_size=15"), "low_res_size must divide image_size 64"),
    "even blur": (train("data.blur.kernel=4"), "kernel"),
    "share above one": (train("data.bsr=1.5"), "config.data.bsr must be in [0, 1], got 1.5"),
    "pictures smaller than the network's": (
        train("model.image_size=512", "data.image_size=512", "data.low_res_size=128"),
        "512",
    ),
    "network of another size": (train("model.image_size=32"), "config.model.image_size must be config.data.image_size"),
    # Files that are not what they say, and places
    "config is missing": (train(config="none.py"), "--config 'none.py' does not exist"),
    "config is a folder": (train(config="empty"), "empty"),
    "config cannot be parsed": (train(config="broken.py"), "broken.py"),
    "config raises": (train(config="raises.py"), "undefined"),
    "config returns a number": (train(config="number.py"), "number.py"),
    "workdir is a file": (train(workdir="file"), "file"),
    "workdir below a file": (train(workdir="file/new"), "file"),
    "weights from nowhere": (train("training.init_from=nowhere"), "folder of a packaged stage, got 'nowhere'"),
    "weights of a damaged run": (train("training.init_from=run_damaged"), "run_damaged"),
    "weights of another network": (train("training.init_from=whole/decoder"), "do not fit the network"),
    "frozen CLIP from nowhere": (prior("encoders.clip=nowhere"), "cascade 'nowhere' is no folder"),
    "frozen CLIP without CLIP": (prior("encoders.clip=whole/decoder"), "clip"),
    "prior that predicts noise": (prior("diffusion.predicts=eps"), "diffusion.predicts of diffusion_prior must be"),
    "folder of pictures not given": (train("data.source=folder"), "data.dir must be a folder of images with captions"),
    "folder of pictures is missing": (
        train("data.source=folder", "data.dir=none"),
        "must be a folder of images, got 'none'",
    ),
    "folder without pictures": (train("data.source=folder", "data.dir=empty"), "has no images"),
    "pictures without captions": (train("data.source=folder", "data.dir=no_captions"), "have no .txt of their name"),
    "pictures that are too small": (
        train("data.source=folder", "data.dir=small"),
        "is 8 px, smaller than the required",
    ),
    "pictures that are none": (train("data.source=folder", "data.dir=lies"), "records"),
    "embeddings that are none": (prior("data.source=embeddings", "data.dir=empty"), "holds no embeddings"),
    "embeddings over a folder": (
        ["prepare-data", "embeddings", f"--config={CONFIGS / 'diffusion_prior.py'}", "--out=empty"],
        "exists; embeddings are written to a new folder",
    ),
    "embeddings by no CLIP": (
        ["prepare-data", "embeddings", f"--config={CONFIGS / 'upsampler_16_to_64.py'}", "--out=new"],
        "config.encoders must name an encoder of images",
    ),
    "importing a cascade": (["import-weights", "whole", "--out", "new"], "must be a published model, got a cascade"),
    "packaging nothing": (["package", "--out", "new"], "neither a WORKDIR nor --clip is given"),
    "packaging what is not there": (["package", "nowhere", "--out", "new"], "nowhere"),
    "packaging a damaged run": (["package", "run_damaged", "--out", "new"], "run_damaged"),
    "packaging onto a file": (["package", "run", "--out", "file"], "file"),
    "picture below a file": ([*WHOLE, "--out", "file/x.png"], "is to lie in 'file', which is a file"),
    "picture in a missing folder": ([*WHOLE, "--out", "none/x.png"], "which is missing; name an existing folder"),
    "picture of another kind": ([*WHOLE, "--out", "x.jpg"], "ends in '.jpg'; give a .png"),
    "pictures into a file": ([*WHOLE, "--out", "file"], "cannot be written"),
    "results over a folder": (
        ["evaluate", "--cascade", "whole", "--json", "empty"],
        "--json must be a file, got the folder 'empty'",
    ),
    "results below a file": (["evaluate", "--cascade", "whole", "--json", "file/x"], "in an existing, writable folder"),
    "data below a file": (["prepare-data", "shapes", "--size", "tiny", "--dir", "file/x"], "file/x"),
    **{f"cascade: {name}": ([*DRAWN, name], said) for name, said in SAID_OF_CASCADES.items()},
}


def listing(world):
    return sorted((str(path), path.stat().st_size) for path in world.rglob("*"))


@pytest.mark.parametrize("case", WRONG)
def test_wrong_input_is_one_line_and_exit_code_2_and_writes_nothing(case, world, monkeypatch, capfd):
    argv, said = WRONG[case]
    monkeypatch.chdir(world)
    before = listing(world)
    capfd.readouterr()
    try:
        code = main(argv)
    except SystemExit as stopped:
        code = stopped.code
    err = capfd.readouterr().err
    assert code == 2, err
    assert said in err and err.count("\n") == 1 and err.endswith("\n"), err
    assert listing(world) == before


def test_there_are_enough_of_them():
    assert len(WRONG) >= 60 and set(SAID_OF_CASCADES) == set(DAMAGED_CASCADES)
