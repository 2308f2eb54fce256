"""unclip_jax: DALL-E 2 (unCLIP, arXiv 2204.06125) in JAX.

    cascade = unclip_jax.load_cascade("shapes")
    images = unclip_jax.text_to_image(cascade, ["a red circle on a blue background"], seed=0)   # uint8 [N, H, W, 3]

The public names are imported on first use, so `import unclip_jax` is fast and does not start a JAX backend. Every
subpackage, such as `unclip_jax.diffusion` or `unclip_jax.models`, can also be imported on its own.
"""

import importlib
from typing import TYPE_CHECKING

__version__ = "0.2.0"

__all__ = [
    "class_to_image",
    "encode_image",
    "encode_text",
    "load_cascade",
    "load_clip",
    "text_to_image",
    "variations",
]

if TYPE_CHECKING:
    from unclip_jax.cascades.class_to_image import class_to_image
    from unclip_jax.cascades.embedding import encode_image, encode_text, load_clip
    from unclip_jax.cascades.loading import load_cascade
    from unclip_jax.cascades.text_to_image import text_to_image
    from unclip_jax.cascades.variations import variations
else:
    _MODULE_OF = {
        "load_cascade": "unclip_jax.cascades.loading",
        "text_to_image": "unclip_jax.cascades.text_to_image",
        "class_to_image": "unclip_jax.cascades.class_to_image",
        "variations": "unclip_jax.cascades.variations",
        "load_clip": "unclip_jax.cascades.embedding",
        "encode_text": "unclip_jax.cascades.embedding",
        "encode_image": "unclip_jax.cascades.embedding",
    }

    def __getattr__(name):
        if name not in _MODULE_OF:
            raise AttributeError(f"module 'unclip_jax' has no attribute {name!r}. Known: {', '.join(__all__)}")
        value = getattr(importlib.import_module(_MODULE_OF[name]), name)
        globals()[name] = value  # cached: later accesses bypass this function
        return value

    def __dir__():
        return sorted({*globals(), *__all__})
