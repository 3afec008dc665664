"""Golden trajectories: the losses of every recipe, shrunk, as they were when somebody last said they were right.

    python -m tests.golden.record          # writes tests/golden/*.json; refuses while src/ has uncommitted changes

Recorded with one thread on a CPU. Exact numbers are a property of the PyTorch version and of the machine, so they
are compared with RTOL; on the machine that recorded them they are equal in all digits.
"""

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "promises"))

RTOL = 1e-4
"""Largest relative difference of a loss that another machine or PyTorch may make over these few steps."""
STEPS = 20
LENGTHENED = (f"train.budget={STEPS} steps", "train.eval_every=10 steps", "train.save_every=100 steps")


def trajectory(name: str, folder: Path) -> dict[str, Any]:
    """What a golden file holds, made anew: the recipe's digest, training losses, learning rates and scores."""
    from recipes import lines_of, small
    from runs import run

    shared = folder / "shared"
    (shared / "cache").mkdir(parents=True, exist_ok=True)
    shrunk = small(name, shared).but(*LENGTHENED)
    run(shrunk, folder / name)
    metrics = folder / name / "metrics.jsonl"
    train = lines_of(metrics, "train")
    return {
        "recipe": digest(name, str(shared)),
        "loss": [row["loss"] for row in train],
        "lr": [row["lr"] for row in train],
        "tokens": [row["tokens"] for row in train],
        "eval_loss": [row["loss"] for row in lines_of(metrics, "eval")],
    }


def digest(name: str, shared: str) -> str:
    """Changes when the recipe, its shrinking or a default of the run changes: then a new record is due."""
    from recipes import small

    config = small(name, Path(shared)).but(*LENGTHENED).config.model_dump_json(by_alias=True)
    return hashlib.sha256(config.replace(shared, "").encode()).hexdigest()[:16]


def refuse_dirty() -> None:
    """A record of code that nobody can look up again says nothing."""
    watched = ["src", "tests/promises/recipes.py", "tests/golden/record.py"]
    changed = subprocess.run(
        ["git", "status", "--porcelain", "--", *watched],
        capture_output=True,
        text=True,
        check=True,
        cwd=HERE.parents[1],
    ).stdout
    if changed:
        sys.exit(f"commit these first, for a record is of committed code:\n{changed}")


def record() -> None:
    """Write every recipe's trajectory and remove those of recipes that are gone."""
    import torch
    from recipes import RECIPES

    torch.set_num_threads(1)
    refuse_dirty()
    for stale in HERE.glob("*.json"):
        stale.unlink()
    with TemporaryDirectory() as folder:
        for name in RECIPES:
            found = trajectory(name, Path(folder))
            (HERE / f"{name}.json").write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    record()
