"""Kill real processes at bad moments, and look at what they leave behind.

A fork server imports the heavy packages once, in a process of its own that has a single thread. Each life of
a program is a fork of it: a function of a Python file, called as `function(folder, **arguments)`. A life is
killed (SIGKILL) after some seconds, or before its k-th operation on files of its folder, and started again.

    with ForkServer() as server:
        program = Program(Path(__file__), "train", {"steps": 12})
        assert storm(server, program, tmp_path, kills=100, seed=1).problems == []

Operations are: opening for writing, rename, mkdir, unlink, rmdir, truncate, fsync. With `power=True` the machine
seems to lose power: what was written to files and not synced is torn in half at the moment of the kill.
"""

import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

TIMED = ("seconds", "per_second", "time", "memory")
SERVER = Path(__file__).with_name("lives.py")
LEFTOVERS = (".tmp", ".trash-", ".aside-")


@dataclass(frozen=True)
class Program:
    """A function of a file, called as `function(folder, **arguments)` in every life; arguments are JSON values."""

    file: Path
    function: str
    arguments: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Life:
    """How a life ended: "done", "killed", "failed" or "hung"; its code, its file operations (where done), its time."""

    ending: str
    code: int
    operations: int
    seconds: float
    output: str


class ForkServer:
    """Starts lives; one process, started once, closed by `with` or when the test process is gone."""

    def __init__(self, *preload: str) -> None:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
        command = [
            sys.executable,
            str(SERVER),
            *(preload or ("torch", "safetensors.torch", "instar.checkpoint.protocol")),
        ]
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the server
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, env=environment
        )

    def __enter__(self) -> "ForkServer":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the server; a second call does nothing."""
        for pipe in (self._process.stdin, self._process.stdout):
            with suppress(OSError):
                pipe.close()
        self._process.wait()
        self._errors.close()

    def life(
        self,
        program: Program,
        folder: Path,
        *,
        after: float | None = None,
        before: int | None = None,
        power: bool = False,
        limit: float = 900.0,
    ) -> Life:
        """One life in `folder`, killed `after` seconds, or `before` its n-th file operation (from 1), or not at all."""
        request = {**asdict(program), "file": str(program.file), "folder": str(folder)}
        request |= {"after": after, "before": before, "power": power, "limit": limit}
        try:
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()
            answer = self._process.stdout.readline()
        except BrokenPipeError:
            answer = b""
        if not answer:
            self._errors.seek(0)
            raise RuntimeError("the fork server died: " + self._errors.read().decode()[-2000:])
        return Life(**json.loads(answer))


# ---- what the tests ask for ----


@dataclass
class Outcome:
    """What must not depend on kills: the training curve without its times, and the last checkpoint's tensors."""

    curve: list[dict[str, Any]]
    weights: dict[str, str]


def outcome(folder: Path) -> Outcome:
    """The curve of `metrics.jsonl` and SHA-256 of each tensor file of the newest checkpoint of a run."""
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    curve = [{key: row[key] for key in row if not key.endswith(TIMED)} for row in rows]
    steps = [int(path.name.rsplit("-", 1)[1]) for path in folder.glob("checkpoint-*")]
    last = folder / f"checkpoint-{max(steps)}"
    weights = {path.name: sha256(path.read_bytes()).hexdigest() for path in sorted(last.rglob("*.safetensors"))}
    return Outcome(curve, {"checkpoint": last.name, **weights})


def damaged(folder: Path) -> list[str]:
    """What a reader of the run folder finds broken right now: checkpoints that are not whole, quarantined ones."""
    from instar.checkpoint.protocol import verify
    from instar.core.errors import CheckpointError

    found = [f"{path.name} is in quarantine" for path in sorted(folder.glob("quarantine/*"))]
    for path in sorted(folder.glob("checkpoint-*")):
        try:
            verify(path)
        except CheckpointError as error:
            found.append(str(error))
    return found


def leftovers(folder: Path) -> list[str]:
    """Temporary names in a run folder; none may outlive the next life."""
    return [path.name for path in sorted(folder.iterdir()) if path.name.startswith(LEFTOVERS)]


@dataclass
class Storm:
    """What a kill storm met; `problems` is empty when the promise holds."""

    runs: int = 0
    lives: int = 0
    kills: int = 0
    seconds: float = 0.0
    problems: list[str] = field(default_factory=list)


def storm(
    server: ForkServer,
    program: Program,
    folder: Path,
    *,
    kills: int,
    seed: int,
    look: Callable[[Path], object] = outcome,
    power: bool = False,
) -> Storm:
    """Run the program until `kills` lives were killed, each run to its end, and compare each with a run nobody killed.

    Half of the kills come at a random time, half before a random file operation. Stops at the first bad run.
    """
    chance, met, start = random.Random(seed), Storm(), time.monotonic()
    reference = server.life(program, _fresh(folder / "reference"))
    if reference.ending != "done":
        met.problems.append(f"the run without kills {reference.ending}: {reference.output}")
        return met
    wanted = look(folder / "reference")
    while met.kills < kills and not met.problems:
        place = _fresh(folder / f"run-{met.runs}")
        met.runs += 1
        _one_run(server, program, place, met, _moments(chance, reference, kills - met.kills, power=power))
        if not met.problems:
            _compare(place, look(place), wanted, met)
            shutil.rmtree(place)
    met.seconds = time.monotonic() - start
    return met


def _moments(chance: random.Random, reference: Life, left: int, *, power: bool) -> Iterator[dict[str, Any]]:
    for _ in range(left):
        if chance.random() < 0.5 and not power:
            yield {"after": chance.uniform(0.0, 1.1 * reference.seconds)}
        else:
            yield {"before": chance.randint(1, reference.operations), "power": power}
    while True:
        yield {}


def _one_run(server: ForkServer, program: Program, place: Path, met: Storm, moments: Iterator[dict[str, Any]]) -> None:
    for moment in moments:
        life = server.life(program, place, **moment)
        met.lives += 1
        met.problems += [f"{place.name}, {moment}: {text}" for text in damaged(place)]
        if life.ending in ("failed", "hung"):
            met.problems.append(f"{place.name}, {moment}: {life.ending}: {life.output}")
        if life.ending != "killed" or met.problems:
            return
        met.kills += 1


def _compare(place: Path, found: object, wanted: object, met: Storm) -> None:
    met.problems += [f"{place.name}: {name} was left behind" for name in leftovers(place)]
    if found == wanted:
        return
    if isinstance(found, Outcome) and isinstance(wanted, Outcome):
        lines = zip(found.curve, wanted.curve, strict=False)
        first = next(((a, b) for a, b in lines if a != b), (len(found.curve), len(wanted.curve)))
        met.problems.append(f"{place.name}: curve or weights differ: {first}; {found.weights}, {wanted.weights}")
    else:
        met.problems.append(f"{place.name}: {found!r} is not {wanted!r}")


def sweep(
    server: ForkServer,
    program: Program,
    folder: Path,
    *,
    prepare: Callable[[Path], object] = lambda _: None,
    check: Callable[[Path], object] = lambda _: None,
    look: Callable[[Path], object] = outcome,
    power: bool = False,
) -> int:
    """Kill the program before each of its file operations in turn; return how many there are.

    Each time: `prepare` an empty folder, one killed life, nothing damaged, `check`, one whole life that must leave
    what a run without kills leaves (`look`). AssertionError names the operation.
    """
    wanted = None
    for number in range(10_000):  # 0: nobody kills
        place = _fresh(folder / f"point-{number}")
        prepare(place)
        life = server.life(program, place, before=number or None, power=power)
        assert life.ending in ("done", "killed"), f"operation {number}: {life.ending}: {life.output}"
        if number:
            assert damaged(place) == [], f"operation {number}"
            check(place)
        if number and life.ending == "done":
            return number - 1
        if number:
            again = server.life(program, place)
            assert again.ending == "done", f"after a kill before operation {number}: {again.output}"
        assert leftovers(place) == [], f"operation {number}"
        wanted = look(place) if not number else wanted
        assert look(place) == wanted, f"operation {number}"
        shutil.rmtree(place)
    raise AssertionError("the program never ends")


def _fresh(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder
