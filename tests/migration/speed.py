"""Compares the speed of the current package with that of a base commit, on this machine.

    .venv/bin/python tests/migration/speed.py [--base COMMIT] [--runs 5] [NAME ...]

A process per version waits for requests and both are asked in turn, so that a busy machine slows both. Prints the
medians, their ratio and the ratio of the fastest runs, and marks a version as slower if both ratios are above 1.05.
The range is that of the ratios of single runs: if it is wide, the machine was busy and the result means little.
"""

import argparse
import datetime
import os
import pathlib
import statistics
import subprocess
import sys
import time

from checkouts import BASE, REPOSITORY, RUNS, checkout, commit_of, environment, processor

SLOWER = 1.05
WORKER = pathlib.Path(__file__).with_name("speed_worker.py")
SAMPLING = ("prior", "decoder", "upsampler_16_to_64", "upsampler_64_to_256", "text_to_image")
TRAINING = ("clip", "diffusion_prior", "decoder", "upsampler_16_to_64")
PROCESSES = {
    "import unclip_jax": ("-c", "import unclip_jax"),
    "import unclip_jax.experiment": ("-c", "import unclip_jax.experiment"),
    "python -m unclip_jax --help": ("-m", "unclip_jax", "--help"),
}
NAMES = (
    *PROCESSES,
    *(f"sample {name}" for name in SAMPLING),
    *(f"train {name}" for name in TRAINING),
)


class Timed:
    """A version of the package that can be timed."""

    def __init__(self, name: str, root: pathlib.Path):
        self.name, self._env = name, environment(root, data=RUNS / "data" / name)
        self._log = (RUNS / f"speed-{name}.log").open("w")
        self._worker = subprocess.Popen(
            [sys.executable, str(WORKER)],
            env=self._env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log, text=True,
        )  # fmt: skip

    def seconds(self, name: str) -> float:
        """Time of one measurement of NAMES."""
        if name in PROCESSES:
            begun = time.perf_counter()
            subprocess.run(
                [sys.executable, *PROCESSES[name]], env=self._env, cwd=RUNS, check=True, stdout=subprocess.DEVNULL
            )
            return time.perf_counter() - begun
        self._worker.stdin.write(f"{name}\n")
        self._worker.stdin.flush()
        answer = self._worker.stdout.readline()
        if not answer:
            raise SystemExit(f"{self.name}: {name!r} failed; see {self._log.name}")
        return float(answer)

    def close(self) -> None:
        self._worker.stdin.close()
        self._worker.wait()


def measure(name: str, base: Timed, current: Timed, runs: int) -> list[tuple[float, float]]:
    """(base, current) seconds of each run. The version that goes first changes from run to run."""
    found = []
    for number in range(runs):
        order = (base, current) if number % 2 == 0 else (current, base)
        seconds = {version.name: version.seconds(name) for version in order}
        found.append((seconds["base"], seconds["current"]))
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"default: all of {', '.join(NAMES)}")
    parser.add_argument("--base", default=BASE, metavar="COMMIT", help="default: %(default)s")
    parser.add_argument("--runs", type=int, default=5, help="runs of each version (default: %(default)s)")
    args = parser.parse_args()
    unknown = [name for name in args.names if name not in NAMES]
    if unknown:
        parser.error(f"NAME must be one of {', '.join(NAMES)}, got {', '.join(unknown)}")
    begun, commit = time.monotonic(), commit_of(args.base)
    RUNS.mkdir(parents=True, exist_ok=True)
    base, current = Timed("base", checkout(commit)), Timed("current", REPOSITORY)
    print(f"{'':<30}{'base':>12}{'current':>12}{'ratio':>8}{'fastest':>9}   range")
    for name in args.names or NAMES:
        pairs = measure(name, base, current, args.runs)
        before, now = (statistics.median(seconds) for seconds in zip(*pairs, strict=True))
        fastest_before, fastest_now = (min(seconds) for seconds in zip(*pairs, strict=True))
        ratio, fastest, ratios = now / before, fastest_now / fastest_before, [new / old for old, new in pairs]
        mark = "  SLOWER" if min(ratio, fastest) > SLOWER else ""
        print(
            f"{name:<30}{1e3 * before:>9.1f} ms{1e3 * now:>9.1f} ms{ratio:>8.3f}{fastest:>9.3f}"
            f"   {min(ratios):.2f} to {max(ratios):.2f}{mark}",
            flush=True,
        )
    base.close()
    current.close()
    print(f"\n{processor()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; base {commit[:12]}")
    print(f"{datetime.date.today()}; {time.monotonic() - begun:.0f} s; {' '.join(sys.argv)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
