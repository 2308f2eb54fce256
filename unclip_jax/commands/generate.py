"""The command `unclip generate`: images from prompts or class labels."""

import argparse
import functools

from unclip_jax.commands import compilation_cache, image_options, terminal

EXAMPLE = """examples:
  unclip generate "a small red circle on a blue background" --out circle.png
  unclip generate "a star" "a ring" --count 4 --seed 7 --decoder-scale 2 \\
      --steps prior=32,decoder=100 --out images
  unclip generate --cascade 64x64_diffusion.pt --class 207 --class 281 --count 4 --out images

A 256 px image of the bundled cascade takes one to two seconds on two CPU cores.
The first call also compiles for about a minute. Later calls reuse the compiled
programs."""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Adds the parser of `unclip generate`."""
    parser = subparsers.add_parser(
        "generate",
        help="generate images from prompts or class labels",
        description="Generates images from prompts or class labels. Each PNG stores its prompt, seed\n"
        "and settings as metadata.",
        epilog=EXAMPLE,
    )
    parser.add_argument("prompts", nargs="*", metavar="PROMPT", help="text prompt, in quotes; repeatable")
    parser.add_argument(
        "--class", type=int, action="append", dest="classes", metavar="N",
        help="class label, starting at 0, for class-conditional models; replaces PROMPT; repeatable",
    )  # fmt: skip
    image_options.add_flags(parser, count="images per prompt or class label", out="named after the prompt")
    parser.add_argument(
        "--prior-scale",
        type=float,
        metavar="X",
        help="guidance scale of the prior; 1 disables guidance (default: from the cascade)",
    )
    parser.add_argument("--prior", metavar="STAGE", help="prior to use if the cascade has several (default: the first)")
    parser.add_argument(
        "--candidates",
        type=int,
        metavar="N",
        help="number of embeddings to sample per image; the one closest to the prompt is kept "
        "(default: from the cascade)",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Runs `unclip generate` and returns the exit code."""
    if args.prompts and args.classes:
        raise ValueError(f"got both prompt {args.prompts[0]!r} and --class {args.classes[0]}. Pass one or the other.")
    names = args.prompts or [f"class {number}" for number in args.classes or ()]
    out = args.out if args.out is not None else image_options.default_name(names[0] if names else "")
    out = image_options.check_out(out)
    compilation_cache.enable()

    import unclip_jax
    from unclip_jax.cascades.class_to_image import plan_class_to_image
    from unclip_jax.cascades.generate import generate
    from unclip_jax.cascades.priors import stages_with_prior
    from unclip_jax.cascades.text_to_image import plan_text_to_image

    cascade = unclip_jax.load_cascade(args.cascade, stages=functools.partial(stages_with_prior, prior=args.prior))
    settings = image_options.flags_of(args) | {"prior_scale": args.prior_scale, "candidates": args.candidates}
    settings["prior"] = args.prior
    if args.prompts:
        plan = plan_text_to_image(cascade, args.prompts, **settings)
    else:  # Without labels either, the plan fails unless the model is unconditional.
        plan = plan_class_to_image(cascade, args.classes, **settings)
    with terminal.one_line_warnings("generate"), terminal.StageBars() as bars:
        images = generate(plan, low_memory=True, progress=bars)
    labels = [name for name in names or ["picture"] for _ in range(args.count)]
    columns = args.count if len(names) > 1 and args.count > 1 else None
    about = "prompt" if args.prompts else "class"
    for path in image_options.write(out, images, labels, args, plan.settings, about=about, columns=columns):
        print(path)
    return 0
