"""`unclip variations`: pictures with the CLIP embedding of a given one."""

import argparse

from unclip_jax.commands import compilation_cache, pictures, terminal

EXAMPLE = """examples:
  unclip variations picture.png --count 8 --out variations.png
  unclip variations picture.jpg --cascade kakaobrain/karlo-v1-alpha-image-variations --seed 7

What CLIP sees in the picture stays, what it does not see changes (unCLIP, arXiv 2204.06125, section 3.1)."""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser(
        "variations",
        help="pictures with what CLIP sees in a given one",
        description="Makes variations of a picture. Each PNG holds its name, seed and settings as metadata.",
        epilog=EXAMPLE,
    )
    parser.add_argument("image", metavar="IMAGE", help="a picture of any size and common format")
    pictures.add_flags(parser, count="variations", out="variations.png")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    out = pictures.check_out(args.out if args.out is not None else "variations.png")
    settings = pictures.flags_of(args)
    compilation_cache.enable()

    import unclip_jax
    from unclip_jax import images
    from unclip_jax.cascades.generate import generate
    from unclip_jax.cascades.priors import stages_with_prior
    from unclip_jax.cascades.variations import plan_variations

    image = images.read_image(args.image)
    cascade = unclip_jax.load_cascade(args.cascade, stages=stages_with_prior)
    plan = plan_variations(cascade, image, **settings)
    with terminal.one_line_warnings("variations"), terminal.StageBars() as bars:
        made = generate(plan, low_memory=True, progress=bars)
    for path in pictures.write(out, made, [args.image] * len(made), args, plan.settings, about="image"):
        print(path)
    return 0
