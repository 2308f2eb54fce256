"""unclip_jax: DALL-E 2 (unCLIP, arXiv 2204.06125) in JAX.

    cascade = unclip_jax.load_cascade("shapes")
    images = unclip_jax.text_to_image(cascade, ["a red circle on a blue background"], seed=0)   # uint8 [N, H, W, 3]

The names below are imported when first used, so `import unclip_jax` costs nothing and starts no backend. Every piece
can be imported by itself: `unclip_jax.diffusion`, `unclip_jax.models`, `unclip_jax.training` and so on.
"""

import importlib
from typing import Any

__version__ = "0.1.0"

# Public name -> the module that defines it.
_PUBLIC = {
    "load_cascade": "unclip_jax.cascades.loading",
    "text_to_image": "unclip_jax.cascades.text_to_image",
    "class_to_image": "unclip_jax.cascades.class_to_image",
    "variations": "unclip_jax.cascades.variations",
    "load_clip": "unclip_jax.cascades.embedding",
    "encode_text": "unclip_jax.cascades.embedding",
    "encode_image": "unclip_jax.cascades.embedding",
}

__all__ = list(_PUBLIC)


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'unclip_jax' has no attribute {name!r}. Known: {', '.join(__all__)}")
    value = getattr(importlib.import_module(_PUBLIC[name]), name)
    globals()[name] = value  # the next use does not come here
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
