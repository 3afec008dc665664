"""The verbs that need no model: init, doctor, lineage."""

import json
import shutil
from pathlib import Path

import pytest

from instar.cli import main
from instar.run import doctor as doctor_room


def call(capsys, *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as left:
        main(arguments)
    said = capsys.readouterr()
    return left.value.code, said.out, said.err


@pytest.fixture
def recipe_folder(monkeypatch, tmp_path) -> Path:
    """Two recipes in place of the package's."""
    folder = tmp_path / "package" / "recipes"
    folder.mkdir(parents=True)
    (folder / "speech.yaml").write_text(
        "# yaml-language-server: $schema=x\n# Speeches, one letter\n# at a time. And\n# more.\nname: a\n"
    )
    (folder / "splice.yaml").write_text("# Splice sites.\nname: b\n")
    monkeypatch.setattr("instar.cli.init.files", lambda package: folder.parent)
    monkeypatch.chdir(tmp_path)
    return folder


def test_init_lists_and_writes(recipe_folder, capsys):
    code, out, _ = call(capsys, "init")
    assert (code, out) == (0, "speech  Speeches, one letter at a time.\nsplice  Splice sites.\n")
    assert json.loads(call(capsys, "init", "--json")[1]) == {
        "speech": "Speeches, one letter at a time.",
        "splice": "Splice sites.",
    }
    code, out, err = call(capsys, "init", "splice")
    assert (code, out, "instar check splice.yaml" in err) == (0, "splice.yaml\n", True)
    assert Path("splice.yaml").read_bytes() == (recipe_folder / "splice.yaml").read_bytes()


def test_init_refuses(recipe_folder, capsys):
    code, out, err = call(capsys, "init", "slice")
    assert (code, out, "did you mean 'splice'?" in err) == (2, "", True)
    Path("mine.yaml").write_text("precious")
    code, _, err = call(capsys, "init", "splice", "--output", "mine.yaml")
    assert (code, "already there" in err, Path("mine.yaml").read_text()) == (73, True, "precious")
    code, _, err = call(capsys, "init", "splice", "--output", "no/such/folder.yaml")
    assert (code, "no/such/folder.yaml" in err) == (73, True)


def test_doctor_looks_at_everything(capsys, tmp_path):
    code, out, _ = call(capsys, "doctor", "--output", str(tmp_path), "--json")
    findings = json.loads(out)
    assert code == 0
    assert {finding["name"] for finding in findings} == {
        "versions",
        "device",
        "threads",
        "products",
        "memory",
        "disk",
        "writing",
        "optional",
    }
    assert all(finding["fix"] for finding in findings if finding["status"] != "OK")
    assert list(tmp_path.iterdir()) == []
    assert len(call(capsys, "doctor", "--output", str(tmp_path))[1].splitlines()) == len(findings)


def test_doctor_fails_where_nothing_can_be_written(capsys, tmp_path):
    code, out, _ = call(capsys, "doctor", "--output", str(tmp_path / "none"))
    assert code == 70
    assert "FAIL disk" in out
    assert "FAIL writing" in out


def test_doctor_advises(monkeypatch, tmp_path):
    speeds = {1: 100.0, 4: 20.0}
    monkeypatch.setattr("torch.get_num_threads", lambda: 4)
    monkeypatch.setattr(doctor_room, "_matmul_speed", speeds.__getitem__)
    monkeypatch.setattr("instar.model.products.depend_on_alignment", lambda: True)
    monkeypatch.setattr(doctor_room, "find_spec", lambda name: None)
    usage = shutil.disk_usage(tmp_path)._replace(free=1 << 20)
    monkeypatch.setattr(doctor_room.shutil, "disk_usage", lambda folder: usage)
    found = {finding.name: finding for finding in doctor_room.doctor(tmp_path)}
    assert (found["threads"].status, "OMP_NUM_THREADS=1" in found["threads"].fix) == ("WARN", True)
    assert (found["products"].status, "export MKL_CBWR=AUTO,STRICT" in found["products"].fix) == ("WARN", True)
    assert (found["optional"].status, "pip install" in found["optional"].fix) == ("WARN", True)
    assert found["disk"].status == "FAIL"


def test_lineage(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    Path("b/checkpoint-2").mkdir(parents=True)
    code, out, err = call(capsys, "lineage", "b")
    assert (code, out, "is no checkpoint of instar; did you mean b/checkpoint-2?" in err) == (65, "", True)
    Path("b/checkpoint-2/state.json").write_text("{}")
    links = [
        {"path": "b/checkpoint-2", "step": 2, "parent": "a"},
        {"path": "a/checkpoint-1", "step": 1, "parent": None},
    ]
    monkeypatch.setattr("instar.checkpoint.lineage.chain", lambda checkpoint: links)
    assert json.loads(call(capsys, "lineage", "b/checkpoint-2", "--json")[1]) == links
    out = call(capsys, "lineage", "b/checkpoint-2")[1]
    assert out.splitlines() == ["b/checkpoint-2", "   step: 2", "└─ a/checkpoint-1", "      step: 1"]
