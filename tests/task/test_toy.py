"""A new task is one file and one entry: nothing else of instar is changed for it."""

import json
import subprocess
import sys
from pathlib import Path

from safetensors.torch import load_file

TOY = Path(__file__).with_name("toy.py")


def test_a_task_of_one_file_lives_the_whole_life(tmp_path: Path) -> None:
    child = subprocess.run([sys.executable, str(TOY), str(tmp_path)], capture_output=True, text=True, check=False)
    assert child.returncode == 0, child.stderr
    found = json.loads(child.stdout)
    whole, again = (load_file(Path(found[name]["checkpoint"]) / "model.safetensors") for name in ("whole", "again"))
    assert all((whole[name] == again[name]).all() for name in whole)
    assert isinstance(found["targets"], float)
    assert found["scores"]["counted"] == 12
    assert found["scores"]["loss"] == found["whole"]["eval_loss"]
    assert [set(row) >= {"row", "repeats"} for row in found["rows"]] == [True] * 60
    assert {row["kind"] for row in found["samples"]} == {"repeats"}
    assert "repeats, guessed" in child.stderr
    assert "guess" in found["page"]
