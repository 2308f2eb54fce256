"""The two versions to compare: checkouts, folders of their own, and running the worker in them."""

import hashlib
import importlib.metadata
import os
import pathlib
import platform
import shutil
import subprocess
import sys
from collections.abc import Sequence

import numpy as np

BASE = "1e4d8af"
REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
RUNS = REPOSITORY / "runs" / "migration"
WORKER = pathlib.Path(__file__).with_name("worker.py")
SCHEMA_1 = REPOSITORY / "tests" / "cascades" / "schema_1"
SHORTENED = ("shapes", "training")  # cases that do less with --quick
READ_SCHEMA_1 = ("families", "compilations")  # cases whose results depend on these folders
PLATFORM = os.environ.get("JAX_PLATFORMS", "cpu")
PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy")


def machine() -> str:
    """A folder name for what floats depend on: processor, cores, JAX platform ("cpu" by default), package versions."""
    cores, jax = os.cpu_count(), importlib.metadata.version("jax")
    return f"{processor().replace(' ', '-')}-{cores}-cores-{PLATFORM}-jax-{jax}-{_digest(_versions())}"


def processor() -> str:
    """The processor's model."""
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    found = [line.partition(":")[2] for line in lines if line.startswith("model name")]
    name = found[0] if found else platform.processor() or platform.machine()
    return " ".join("".join(c if c.isalnum() or c in "-. " else " " for c in name).split())


def _versions() -> bytes:
    chosen = {name: importlib.metadata.version(name) for name in PACKAGES}
    return repr((chosen, platform.python_version(), PLATFORM)).encode()


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:12]


def commit_of(name: str) -> str:
    """The full hash of a commit."""
    return _git("rev-parse", "--verify", f"{name}^{{commit}}")


def checkout(commit: str) -> pathlib.Path:
    """A worktree of `commit` under runs/migration, created if it is missing."""
    folder = RUNS / "checkouts" / commit[:12]
    if not (folder / "unclip_jax").is_dir():
        shutil.rmtree(folder, ignore_errors=True)
        _git("worktree", "prune")
        _git("worktree", "add", "--quiet", "--detach", str(folder), commit)
    return folder


def _git(*arguments: str) -> str:
    return subprocess.run(
        ["git", "-C", str(REPOSITORY), *arguments], check=True, text=True, stdout=subprocess.PIPE
    ).stdout.strip()


def environment(root: pathlib.Path, *, data: pathlib.Path, persistent: bool = True) -> dict[str, str]:
    """The environment of a process that imports the package of `root`.

    Args:
      root: A checkout.
      data: Folder for data that the package prepares for itself.
      persistent: Whether compiled programs are kept in runs/migration/cache.
    """
    compilations = {
        "JAX_ENABLE_COMPILATION_CACHE": str(persistent).lower(),
        "JAX_COMPILATION_CACHE_DIR": str(RUNS / "cache"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }
    own = {"PYTHONPATH": str(root), "UNCLIP_CACHE": str(data), "JAX_PLATFORMS": PLATFORM, "HF_HUB_OFFLINE": "1"}
    return {**os.environ, **compilations, **own}


class Version:
    """One version of the package, the base or the current one.

    Args:
      name: "base" or "current".
      root: Its checkout.
      base: Hash of the base commit, whose folder holds what both versions read.
    """

    def __init__(self, name: str, root: pathlib.Path, base: str):
        self.name, self.root = name, root
        self.state = RUNS / base[:12] / machine()
        self.answers = self.state / "answers"
        self.answers.mkdir(parents=True, exist_ok=True)

    def results(self, cases: Sequence[str], *, quick: bool) -> dict[str, np.ndarray]:
        """Results of cases. Those of the base are kept per case, as long as the worker and its inputs stay the same."""
        found = {}
        for case in cases:
            path = self._path(case, quick)
            if self.name != "base" or not path.exists():
                self._run(case, path, quick=quick)
            found |= dict(np.load(path))
        return found

    def _path(self, case: str, quick: bool) -> pathlib.Path:
        if self.name != "base":
            return RUNS / "scratch" / f"{case}.npz"
        folders = sorted(SCHEMA_1.rglob("*.*")) if case in READ_SCHEMA_1 else []
        inputs = [WORKER, *(path for path in folders if _is_input(path))]
        digest = _digest(b"".join(path.read_bytes() for path in inputs))
        return self.answers / f"{case}{'-quick' if quick and case in SHORTENED else ''}-{digest}.npz"

    def _run(self, case: str, results: pathlib.Path, *, quick: bool) -> None:
        scratch = RUNS / "scratch" / self.name
        scratch.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, str(WORKER), str(results), case, f"--state={self.state}", f"--scratch={scratch}"]
        env = environment(self.root, data=RUNS / "data" / self.name, persistent=case != "compilations")
        print(f"{self.name}: {case} ...", file=sys.stderr, flush=True)
        log = RUNS / "scratch" / f"{self.name}-{case}.log"
        with log.open("w") as output:
            done = subprocess.run(
                [*command, *(["--quick"] if quick else [])], env=env, stdout=output, stderr=subprocess.STDOUT
            )
        if done.returncode:
            raise SystemExit(f"{self.name}: case {case} failed; the end of {log}:\n{log.read_text()[-2000:]}")


def _is_input(path: pathlib.Path) -> bool:
    return path.suffix in (".safetensors", ".json", ".txt") or path.name == "outputs.py"
