"""How right and how varied a cascade's pictures are, against how it is sampled: the curves behind its defaults.

    python launch/benchmarks/sampling_curves.py --out curves [--cascade shapes] [--prompts 64] [--seed 100]
        [--only NAME ...] [--workdir DIR]

Needs the extra `plots`. One setting of one stage changes at a time, the others being the cascade's own. A point is the
rows `one_object`, `two_objects`, `compositional`, `free_wording` and `diversity` of the shapes suite. With the workdir
in which the cascade's decoder was trained, one point more: its parameters as the last step left them, not their moving
average. OUT.json holds the points, each as soon as it is known, and a call that finds it goes on with it; OUT.png shows
them, the cascade's own setting as a dashed line.
"""

import argparse
import dataclasses
import json
import pathlib
import time
from typing import Any

import jax
import machine
import numpy as np

import unclip_jax
from unclip_jax import files, huge_pages
from unclip_jax.cascades.cascade import Cascade
from unclip_jax.commands import compilation_cache
from unclip_jax.commands.evaluate import cascade_functions
from unclip_jax.evaluation.suite import run_measures
from unclip_jax.evaluation.suites.shapes import SUITE
from unclip_jax.evaluation.suites.shapes.image_measures import DIVERSITY_IMAGES, DIVERSITY_PROMPTS
from unclip_jax.training.checkpoints import restore_params

ROWS = ("one_object", "two_objects", "compositional", "free_wording")
PROMPT = "a small red circle on a blue background"
# Name -> (stage, setting, values).
SWEEPS: dict[str, tuple[str, str, list[Any]]] = {
    "decoder-guidance": ("decoder", "guidance_scale", [1.0, 1.5, 2.0, 3.0]),
    "decoder-steps": ("decoder", "steps", [6, 12, 25]),
    "decoder-sampler": ("decoder", "sampler", ["ddpm", "ddim", "dpm"]),
    "decoder-eta": ("decoder", "eta", [0.0, 0.5, 1.0]),
    "decoder-candidates": ("decoder", "candidates", [1, 2, 4]),
    "decoder-weights": ("decoder", "weights", ["average", "last step"]),
    "prior-guidance": ("diffusion_prior", "guidance_scale", [1.0, 2.0, 2.5, 3.0, 4.0]),
    "prior-steps": ("diffusion_prior", "steps", [4, 8, 16, 64]),
    "prior-sampler": ("diffusion_prior", "sampler", ["ddpm", "ddim", "dpm"]),
    "prior-candidates": ("diffusion_prior", "candidates", [1, 2, 4]),
    "first-upsampler-steps": ("upsampler_16_to_64", "steps", [2, 5, 10]),
    "second-upsampler-steps": ("upsampler_64_to_256", "steps", [1, 2, 4]),
}
WEIGHTS = "decoder-weights"  # no setting of sampling: each value is a cascade of its own
ASIDE = 0.04  # between the marks of one value, which else lie on each other
LEGEND = 0.6  # inches above the panels
OWN = "own"  # the point of the cascade as it is, which every sweep passes through


def own_value(cascade: Cascade, name: str) -> Any:
    """What the cascade has for the setting that a sweep changes."""
    stage, setting, values = SWEEPS[name]
    return values[0] if name == WEIGHTS else getattr(cascade.stages[stage].spec.sampling, setting)


def with_last_step(cascade: Cascade, workdir: pathlib.Path) -> Cascade:
    """The cascade with its decoder's parameters as the last step of its training left them."""
    decoder = cascade.stages["decoder"]
    averaged, last = (restore_params(workdir, averaged=averaged).params for averaged in (True, False))
    packaged = jax.tree.map(np.asarray, decoder.params)
    if not jax.tree.all(jax.tree.map(lambda a, b: np.array_equal(np.float16(a), b), averaged, packaged)):
        raise SystemExit(f"--workdir {str(workdir)!r}: its moving average is not the decoder of {cascade.path!r}")
    last = jax.tree.map(lambda new, old: jax.device_put(np.asarray(new, old.dtype), old.sharding), last, decoder.params)
    return dataclasses.replace(
        cascade, stages={**cascade.stages, decoder.name: dataclasses.replace(decoder, params=last)}
    )


def measure(cascade: Cascade, sampling: dict[str, dict[str, Any]], args: argparse.Namespace) -> dict[str, Any]:
    """Returns the accuracy of each of ROWS with its interval, the diversity, and the seconds per image.

    The diversity is None if no prompt has two readable images.
    """

    def generate_images(prompts: list[str], **given: Any):
        return unclip_jax.text_to_image(cascade, prompts, sampling=sampling, **given)

    generate_images([PROMPT], seed=0, first_image=0)  # compiles
    model = dataclasses.replace(cascade_functions(cascade), generate_images=generate_images)
    start = time.perf_counter()
    measures = SUITE.select([*ROWS, "diversity"])
    results = run_measures(measures, model, seed=args.seed, num_prompts=args.prompts)
    found = {measure.name: result for measure, result in results}
    count = len(ROWS) * args.prompts + DIVERSITY_PROMPTS * DIVERSITY_IMAGES
    return {
        **{row: {name: found[row][name] for name in ("accuracy", "interval")} for row in ROWS},
        "diversity": found["diversity"]["ratio"],
        "seconds": (time.perf_counter() - start) / count,
    }


def draw(points: dict[str, dict[str, Any]], cascade: Cascade, path: pathlib.Path) -> None:
    """The curves that have points, a panel each."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    shown = [name for name in SWEEPS if points.get(name)]
    columns = min(3, len(shown))
    rows = -(-len(shown) // columns)
    figure, axes = pyplot.subplots(rows, columns, figsize=(4.2 * columns, 3.0 * rows), sharey=True, squeeze=False)
    for axis in axes.flat[len(shown) :]:
        axis.set_visible(False)
    for axis, name in zip(axes.flat, shown, strict=False):
        stage, setting, values = SWEEPS[name]
        known = [value for value in values if str(value) in points[name]]
        measured = [points[name][str(value)] for value in known]
        line = "none" if isinstance(known[0], str) else "-"
        places = np.arange(len(known))
        for number, row in enumerate(ROWS):
            accuracy = [point[row]["accuracy"] for point in measured]
            low, high = zip(*(point[row]["interval"] for point in measured), strict=True)
            reach = np.abs(np.subtract([low, high], accuracy))
            beside = places + ASIDE * (number - len(ROWS) / 2)
            axis.errorbar(beside, accuracy, yerr=reach, marker="o", ms=4, ls=line, capsize=2, label=f"right, {row}")
        varied = [float("nan") if point["diversity"] is None else point["diversity"] for point in measured]
        beside = places + ASIDE * len(ROWS) / 2
        axis.plot(beside, varied, marker="s", ms=4, ls=line, label="diversity, of the data's")
        if (own := own_value(cascade, name)) in known:
            axis.axvline(known.index(own), linestyle="--", color="grey", zorder=0)
        axis.set_xticks(places, known)
        axis.set_xlim(-0.5, len(known) - 0.5)
        axis.set_title(f"{stage}: {setting}", fontsize=10)
        axis.grid(axis="y", alpha=0.3)
    figure.legend(*axes.flat[0].get_legend_handles_labels(), loc="upper center", ncols=3, fontsize=9, frameon=False)
    figure.tight_layout(rect=(0.0, 0.0, 1.0, 1.0 - LEGEND / figure.get_figheight()))
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cascade", default="shapes", help="a bundled name or a cascade folder (shapes)")
    parser.add_argument("--out", required=True, type=pathlib.Path, help="of OUT.json and OUT.png")
    parser.add_argument("--prompts", type=int, default=64, help="of each row of a point (64)")
    parser.add_argument("--seed", type=int, default=100, help="of the suite (100; tables have others)")
    parser.add_argument("--only", nargs="+", choices=SWEEPS, metavar="NAME", help=f"of {', '.join(SWEEPS)}")
    parser.add_argument("--workdir", type=pathlib.Path, metavar="DIR", help="of the decoder's training")
    args = parser.parse_args()
    compilation_cache.enable()
    print(machine.header(machine.product_rate()))
    cascade = unclip_jax.load_cascade(args.cascade)
    call = {"cascade": args.cascade, "prompts": args.prompts, "seed": args.seed}
    record = args.out.with_suffix(".json")
    points = files.read_json(record) if record.exists() else {"call": call}
    if args.only and WEIGHTS in args.only and args.workdir is None:
        parser.error(f"{WEIGHTS} wants --workdir, that of the decoder's training")
    if points["call"] != call:
        raise SystemExit(f"{str(record)!r} is of {points['call']}, this call of {call}; give another --out")
    for name in args.only or SWEEPS:
        stage, setting, values = SWEEPS[name]
        if name == WEIGHTS and args.workdir is None:
            continue
        for value in values:
            if str(value) not in points.setdefault(name, {}):
                if value == own_value(cascade, name):
                    points[OWN] = points.get(OWN) or measure(cascade, {}, args)
                    points[name][str(value)] = points[OWN]
                elif name == WEIGHTS:
                    points[name][str(value)] = measure(with_last_step(cascade, args.workdir), {}, args)
                else:
                    points[name][str(value)] = measure(cascade, {stage: {setting: value}}, args)
                files.atomic_write(record, json.dumps(points, indent=1))
            point = points[name][str(value)]
            varied = "none" if point["diversity"] is None else f"{point['diversity']:.2f}"
            right = ", ".join(f"{row} {point[row]['accuracy']:.1%}" for row in ROWS)
            told = f"{right}, diversity {varied}, {point['seconds']:.2f} s a picture"
            print(f"{name:24}{value!s:>14}  {told}", flush=True)
    draw(points, cascade, args.out.with_suffix(".png"))


if __name__ == "__main__":
    huge_pages.begin_anew()
    main()
