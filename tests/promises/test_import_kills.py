"""Promise 3 for imported masking values: SIGKILL before any file operation leaves no store, or the whole one."""

import shutil
from hashlib import sha256
from pathlib import Path

from faults import ForkServer, Program, leftovers
from import_program import make

from instar.masking.value_arrays import ValueArrays, read_header

EVERY = 3
"""Of this many operations one is tried."""


def files_of(run: Path) -> dict[str, str]:
    return {path.name: sha256(path.read_bytes()).hexdigest() for path in sorted((run / "masking").iterdir())}


def test_an_import_that_is_killed_leaves_a_whole_store_or_none(tmp_path: Path, fork_server: ForkServer) -> None:
    make(tmp_path)
    program = Program(
        Path(__file__).with_name("import_program.py"), "life", {"given": str(tmp_path / "given.bedgraph")}
    )

    def run(name: str) -> Path:
        (tmp_path / name).mkdir()
        shutil.copy(tmp_path / "run.yaml", tmp_path / name)
        return tmp_path / name

    whole = run("whole")
    assert fork_server.life(program, whole).ending == "done"
    wanted = files_of(whole)
    values = ValueArrays(whole / "masking", read_header(whole / "masking")).arrays["value"]
    assert values.tolist() == [128] * 20 + [0] * 20

    killed = 0
    for operation in range(1, 100, EVERY):
        place = run(f"run-{operation}")
        life = fork_server.life(program, place, before=operation)
        if life.ending == "done":
            break
        assert life.ending == "killed", life.output
        killed += 1
        assert not (place / "masking").exists() or files_of(place) == wanted, f"operation {operation}"
        assert fork_server.life(program, place).ending == "done"
        assert files_of(place) == wanted
        assert leftovers(place) == [], f"operation {operation}"
    assert life.ending == "done"
    assert killed > 4
