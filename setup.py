"""Package metadata and dependencies."""

import pathlib
import re

from setuptools import find_packages, setup

ROOT = pathlib.Path(__file__).parent
VERSION = re.search(r'__version__ = "(.+)"', (ROOT / "unclip_jax/__init__.py").read_text(encoding="utf-8")).group(1)

# Public address of the repository, without a slash at the end. If None, links in the package metadata stay relative.
REPOSITORY = None

# Lower bounds are releases that have passed the tests. tensorflow-datasets 4.9.9 fails with protobuf 7, and paths of
# etils 1.13 have no absolute().
BASE = [
    "jax>=0.10.2",
    "flax>=0.12.8",
    "optax>=0.2.8",
    "orbax-checkpoint>=0.12.8",
    "ml_collections>=1.1.0",
    "chex>=0.1.92",
    "grain>=0.2.18",
    "tensorflow-datasets>=4.9.10",
    "transformers>=5.0.0",  # configs and tokenizers only
    "tokenizers>=0.22.2",
    "safetensors>=0.6.1",
    "huggingface_hub>=1.3.0",
    "einops>=0.8.1",
    "etils[epath]>=1.15.0",
    "numpy>=2.0.0",
    "pillow>=11.0.0",
    "absl-py>=2.3.1",
    "tqdm>=4.67.0",
    "tensorboardX>=2.6.5",
]

EXTRAS = {
    "tpu": ["jax[tpu]>=0.10.2"],
    "cuda": ["jax[cuda12]>=0.10.2"],
    "test": ["pytest>=8.3", "pytest-xdist>=3.6", "build>=1.2"],
    "lint": ["ruff==0.17.6"],  # exact, because new versions have new rules
    "plots": ["matplotlib>=3.10"],  # for launch/benchmarks
    # Reference implementations for golden files, checks of published weights and benchmarks. Tests do not need them.
    "parity": ["torch>=2.13", "diffusers>=0.42"],
}


def long_description() -> str:
    """Returns the README. With a repository, it gets badges, and its links and images become absolute."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    if REPOSITORY is None:
        return text
    text = re.sub(r"!\[([^]]*)\]\((?!https?:)([^)]+)\)", rf"![\1]({REPOSITORY}/raw/main/\2)", text)
    text = re.sub(r"(?<!!)\[([^]]*)\]\((?!https?:|#)([^)]+)\)", rf"[\1]({REPOSITORY}/blob/main/\2)", text)
    badge = f"[![License](https://img.shields.io/badge/license-Apache--2.0-blue)]({REPOSITORY}/blob/main/LICENSE)"
    title, _, rest = text.partition("\n")
    return f"{title}\n\n{badge}\n{rest}"


setup(
    name="unclip_jax",
    version=VERSION,
    description="DALL-E 2 (unCLIP) in JAX: CLIP, priors, decoder and upsamplers; training, sampling and evaluation",
    long_description=long_description(),
    long_description_content_type="text/markdown",
    license_expression="Apache-2.0",
    license_files=["LICENSE"],
    python_requires=">=3.11",
    packages=find_packages(include=["unclip_jax", "unclip_jax.*"]),
    package_data={"unclip_jax": ["cascades/bundled/**", "py.typed"]},
    install_requires=BASE,
    extras_require=EXTRAS,
    entry_points={"console_scripts": ["unclip = unclip_jax.__main__:command"]},
    project_urls={} if REPOSITORY is None else {"Source": REPOSITORY},
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Intended Audience :: Science/Research",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3 :: Only",
        "Typing :: Typed",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
)
