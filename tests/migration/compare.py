"""Compares the results of the current package with those of a base commit, on this machine.

    .venv/bin/python tests/migration/compare.py [--quick] [--resume] [--base COMMIT] [--base-only] [CASE ...]

Both versions run `worker.py`, in processes of their own. Results of the base are kept in runs/migration/. Prints a
line for each result and exits with 1 if one differs by more than its tolerance:

    images                 at most 0.1% of the 8-bit values differ, none by more than 1
    embeddings             at most 1e-5 of the largest absolute value
    losses, gradient norms at most 1e-6, relative
    compiled programs      at most as many as the base

With several candidates per image, a prompt for which both versions chose images of nearly equal score (within 1e-4)
may differ. It is named.
"""

import argparse
import datetime
import sys
import time
from collections.abc import Mapping

import numpy as np
from checkouts import BASE, REPOSITORY, Version, checkout, commit_of, machine

CASES = ("shapes", "variations", "upsamplers", "families", "training", "compilations")
SHARE, EMBEDDING, METRIC, TIE = 1e-3, 1e-5, 1e-6, 1e-4


def images(base: np.ndarray, current: np.ndarray) -> tuple[bool, str]:
    difference = np.abs(current.astype(int) - base.astype(int))
    share, largest = np.mean(difference > 0), difference.max()
    return share <= SHARE and largest <= 1, f"{share:.4%} differ, by up to {largest}"


def embeddings(base: np.ndarray, current: np.ndarray) -> tuple[bool, str]:
    found = np.max(np.abs(current - base)) / np.max(np.abs(base))
    return bool(found <= EMBEDDING), f"{found:.1e} of the largest value"


def metrics(base: np.ndarray, current: np.ndarray) -> tuple[bool, str]:
    found = np.max(np.abs(current - base) / np.abs(base))
    return bool(found <= METRIC), f"{found:.1e} relative, at {base[-1]:.7g}"


def counts(base: np.ndarray, current: np.ndarray) -> tuple[bool, str]:
    return bool(current <= base), f"{base} programs before, {current} now"


def measure_of(name: str, value: np.ndarray):
    if value.dtype == np.uint8:
        return images
    if name.endswith("_count"):
        return counts
    return metrics if name.endswith(("/loss", "/grad_norm")) else embeddings


def chosen(name: str, base: Mapping[str, np.ndarray], current: Mapping[str, np.ndarray]) -> tuple[bool, str]:
    """Compares images that were chosen among candidates, prompt by prompt."""
    scores = np.abs(base[f"{name}_score"] - current[f"{name}_score"])
    verdicts = [images(*pair) for pair in zip(base[name], current[name], strict=True)]
    differing = [number for number, (same, _) in enumerate(verdicts) if not same]
    if not differing:
        return images(base[name], current[name])
    tied = [number for number in differing if scores[number] <= TIE]
    said = "; ".join(
        f"prompt {n}: {verdicts[n][1]}, scores {scores[n]:.0e} apart{' (a tie)' if n in tied else ''}"
        for n in differing
    )
    return len(tied) == len(differing), said


def compare(base: Mapping[str, np.ndarray], current: Mapping[str, np.ndarray]) -> list[tuple[str, bool, str]]:
    """(name, whether it agrees, difference) of every result."""
    rows = []
    for name in dict.fromkeys([*base, *current]):
        if name.endswith("_score"):
            continue
        if name not in base or name not in current:
            rows.append((name, False, f"only the {'base' if name in base else 'current'} version has it"))
        elif base[name].shape != current[name].shape:
            rows.append((name, False, f"shape {current[name].shape}, was {base[name].shape}"))
        elif f"{name}_score" in base:
            rows.append((name, *chosen(name, base, current)))
        else:
            rows.append((name, *measure_of(name, base[name])(base[name], current[name])))
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"default: {', '.join(CASES)}")
    parser.add_argument("--quick", action="store_true", help="two prompts, one loss per task")
    parser.add_argument("--resume", action="store_true", help="also resume and package runs that the base began")
    parser.add_argument("--base", default=BASE, metavar="COMMIT", help="default: %(default)s")
    parser.add_argument("--base-only", action="store_true", help="only compute and keep the base's results")
    args = parser.parse_args()
    unknown = sorted(set(args.cases) - {*CASES, "resume"})
    if unknown:
        parser.error(f"CASE must be one of {', '.join(CASES)}, resume, got {', '.join(unknown)}")
    cases = [*(args.cases or CASES), *(["resume"] if args.resume and "resume" not in args.cases else [])]
    begun, commit = time.monotonic(), commit_of(args.base)
    base = Version("base", checkout(commit), commit)
    base.results(["prepare"], quick=False)
    expected = base.results(cases, quick=args.quick)
    if args.base_only:
        return 0
    rows = compare(expected, Version("current", REPOSITORY, commit).results(cases, quick=args.quick))
    width = max(len(name) for name, *_ in rows)
    for name, same, said in rows:
        print(f"{'same  ' if same else 'DIFFER'}  {name:<{width}}  {said}")
    differing = sum(not same for _, same, _ in rows)
    print(f"\n{len(rows)} results, {differing} differ; base {commit[:12]}; {machine()}")
    print(f"{datetime.date.today()}; {time.monotonic() - begun:.0f} s; {' '.join(sys.argv)}")
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main())
