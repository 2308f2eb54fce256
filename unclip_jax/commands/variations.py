"""The command `unclip variations`: variations of an image."""

import argparse

from unclip_jax.commands import compilation_cache, image_options, terminal

EXAMPLE = """examples:
  unclip variations photo.png --count 8 --out variations.png
  unclip variations photo.jpg --cascade kakaobrain/karlo-v1-alpha-image-variations --seed 7

The decoder is conditioned on the CLIP embedding of the image. Variations keep the
content that the embedding encodes and differ in everything else (Ramesh et al.
2022, arXiv 2204.06125, Section 3.1)."""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Adds the parser of `unclip variations`."""
    parser = subparsers.add_parser(
        "variations",
        help="generate variations of an image",
        description="Generates variations of an image. Each PNG stores the name of the image, seed\n"
        "and settings as metadata.",
        epilog=EXAMPLE,
    )
    parser.add_argument("image", metavar="IMAGE", help="image file of any size and any common format")
    image_options.add_flags(parser, count="number of variations", out="variations.png")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Runs `unclip variations` and returns the exit code."""
    out = image_options.check_out(args.out if args.out is not None else "variations.png")
    settings = image_options.flags_of(args)
    compilation_cache.enable()

    import unclip_jax
    from unclip_jax.cascades.generate import generate
    from unclip_jax.cascades.priors import stages_with_prior
    from unclip_jax.cascades.variations import plan_variations
    from unclip_jax.images import read_image

    image = read_image(args.image)
    cascade = unclip_jax.load_cascade(args.cascade, stages=stages_with_prior)
    plan = plan_variations(cascade, image, **settings)
    with terminal.one_line_warnings("variations"), terminal.StageBars() as bars:
        images = generate(plan, low_memory=True, progress=bars)
    for path in image_options.write(out, images, [args.image] * len(images), args, plan.settings, about="image"):
        print(path)
    return 0
