"""Embeddings of a dataset, computed once for priors to train on."""

from etils import epath
from ml_collections import ConfigDict

from unclip_jax import parameters
from unclip_jax.cascades.embedding import image_encoder
from unclip_jax.data import embedding_store
from unclip_jax.data.sources import check_directory, describe, open_source, source_type
from unclip_jax.experiment.config import typed
from unclip_jax.experiment.encoders import image_encoder_of, load_encoders
from unclip_jax.experiment.spec import ExperimentConfig


def store_embeddings(config: ConfigDict | ExperimentConfig, directory: epath.PathLike) -> dict[str, dict[str, int]]:
    """Embeds both splits of the data by the encoder of a config, spread over all devices of this process.

    A prior then trains on them with `config.data.source` "embeddings" and `config.data.dir` set to the folder.

    Args:
      directory: A new folder.

    Returns:
      {split: {"records": number of embeddings, "unreadable": number of records left out}}.

    Raises:
      ValueError: If the folder exists, or the config has no encoder of images or no images.
    """
    config = typed(config)
    embedding_store.check_new(directory)
    data = config.data
    if "image" not in source_type(data.source).provides:
        raise ValueError(f"config.data.source must be a source of images, got {data.source}.")
    check_directory(data)
    encoder = image_encoder_of(load_encoders(config))
    if encoder is None:
        raise ValueError("config.encoders must name an encoder of images, such as that of a cascade.")
    sources = {split: open_source(data, split) for split in (data.split, data.eval_split)}
    encode, rows = image_encoder(encoder)
    digest = parameters.digest(encoder.params)
    return embedding_store.write_store(
        directory, sources, encode, clip=digest, data=describe(data), spec=data, rows=rows
    )
