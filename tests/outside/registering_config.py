"""The config of the kind "blob", which makes the kind known itself."""

from tests.outside import blob_kind
from tests.outside.blob_config import get_config
from unclip_jax import kinds

kinds.register(blob_kind.KIND)

__all__ = ["get_config"]
