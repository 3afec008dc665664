"""Searches with the real packages: on a local Ray, in parallel processes, and with W&B in its offline mode."""

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


def found_by(module: str, folder: Path, **environment: str) -> Any:
    """What a search in a process of its own wrote."""
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-m", module, str(folder)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": path, **environment},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads((folder / "found.json").read_text(encoding="utf-8"))


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed: pip install 'instar[ray]'")
def test_a_search_on_a_real_ray(tmp_path: Path) -> None:
    found = found_by("tests.api.search_ray", tmp_path, RAY_USAGE_STATS_ENABLED="0")
    trials = {
        rate: (status, failures, iterations, objective)
        for _, status, rate, failures, iterations, objective in found["trials"]
    }
    assert {status for status, *_ in trials.values()} == {"TERMINATED"}
    assert {rate: iterations for rate, (_, _, iterations, _) in trials.items()} == {0.001: 1, 0.05: 2, 0.1: 2, 0.4: 2}
    assert {rate: failures for rate, (_, failures, _, _) in trials.items()} == {0.001: 0, 0.05: 0, 0.1: 0, 0.4: 1}
    number, objective, parameters = found["best"]
    rate = min(trials, key=lambda rate: trials[rate][3])
    assert parameters == {"learning_rate": rate}
    assert objective == trials[rate][3]
    assert number in [trial_id for trial_id, *_ in found["trials"]]
    assert found["processes"] >= 2, "the first trial waited for a second one beside it"
    assert found["learning_rate"] == 0.01, "the arguments are as before"
    assert found["measures memory"]


@pytest.mark.slow
@pytest.mark.skipif(find_spec("wandb") is None, reason="W&B is not installed: pip install wandb")
def test_trials_of_a_real_wandb_offline(tmp_path: Path) -> None:
    names = ("WANDB_DIR", "WANDB_CACHE_DIR", "WANDB_DATA_DIR", "WANDB_CONFIG_DIR")
    places = dict.fromkeys(names, str(tmp_path))
    found = found_by("tests.api.search_wandb", tmp_path, WANDB_MODE="offline", WANDB_SILENT="true", **places)
    assert found["hyperparameters"] == {"learning_rate": 0.1}
    assert found["sweep"] == "sweep-1"
    logged = [path for path in tmp_path.rglob("run-*.wandb") if b"eval/loss" in path.read_bytes()]
    assert f"run-{found['run_id']}.wandb" in [path.name for path in logged], "the run that has the trial's figures"
