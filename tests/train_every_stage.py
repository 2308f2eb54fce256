"""Trains every stage for twenty steps, half of them after a resume, and makes a deprecation in our modules an error.

    python train_every_stage.py STAGES.json RUNS_DIR

STAGES.json: {stage: [path of its config, field=value, ...]}. A program of its own, as the environments in which it runs
have no pytest.
"""

import json
import pathlib
import sys
import warnings


def main(stages: str, runs: str) -> None:
    for category in (DeprecationWarning, PendingDeprecationWarning, FutureWarning):
        warnings.filterwarnings("error", category=category, module=r"unclip_jax(\.|$)")
    from unclip_jax.__main__ import main as unclip
    from unclip_jax.training.checkpoint_record import steps_saved

    for stage, (config, *fields) in json.loads(pathlib.Path(stages).read_text()).items():
        workdir = pathlib.Path(runs) / stage
        for steps in (10, 20):
            flags = [f"--config.{field}" for field in (*fields, f"training.steps={steps}")]
            code = unclip(["train", f"--config={config}", f"--workdir={workdir}", *flags])
            if code or steps_saved(workdir)[-1] != steps:
                sys.exit(f"{stage}: exit code {code}, checkpoints at {steps_saved(workdir)}, and {steps} were wanted")
        logged = [json.loads(line)["step"] for line in (workdir / "metrics.jsonl").read_text().splitlines()]
        if logged != list(range(1, 21)):
            sys.exit(f"{stage}: metrics of the steps {logged}")


if __name__ == "__main__":
    main(*sys.argv[1:])
