"""Training runs from configs, and cascades from trained workdirs."""

from unclip_jax.experiment.assemble import assemble
from unclip_jax.experiment.config import default_config, load_config
from unclip_jax.experiment.embeddings import store_embeddings
from unclip_jax.experiment.package import package
from unclip_jax.experiment.train import train_stage

__all__ = ["assemble", "default_config", "load_config", "package", "store_embeddings", "train_stage"]
