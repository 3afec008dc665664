"""Masking probabilities that the model rewrites: exact over kills, ranks and everything that only watches."""

import errno
import json
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from faults import ForkServer, Program, outcome, storm
from recipes import Small, lines_of, small
from runs import SMOOTH, break_off, last, left, run
from test_ranks import on_ranks

from instar.core.errors import CheckpointError, DataError, DiskError, OutputError
from instar.inference.evaluate import evaluation_mode
from instar.masking import journal
from instar.masking.memory import StoreMemory
from instar.masking.store import ProbabilityStore
from instar.masking.update import Rule
from instar.masking.value_arrays import read_header
from instar.run.prepare import prepare
from instar.trainer.callbacks import masking_store

PROGRAMS = Path(__file__).with_name("programs.py")
NAME = "dna-mlm-adaptive"
LONGER = ("train.budget=14 steps", "train.batch_samples=12", "task.masking.update=0.6")
"""Long enough for the probabilities to tell: a step reads what was measured two steps before."""
LINES = 11
"""Of the genome: so few that every step meets samples of the steps just before it."""


def chances_of(folder: Path) -> dict[str, bytes]:
    """The newest state of a run's store, that of killed ones too."""
    store = ProbabilityStore(folder / "masking", read_header(folder / "masking"), rule=Rule())
    store.latest()
    return {name: array.tobytes() for name, array in store.mapped.arrays.items()}


def all_left(folder: Path) -> dict[str, Any]:
    figures = (folder / "masking.jsonl").read_text() if (folder / "masking.jsonl").is_file() else ""
    return {**left(folder), "probabilities": chances_of(folder), "figures": figures}


def outcome_with_chances(folder: Path) -> Any:
    return outcome(folder), chances_of(folder), (folder / "masking.jsonl").read_text()


@pytest.fixture(scope="module")
def shrunk(shared: Path) -> Callable[[str], Small]:
    """A recipe on a genome of a few samples."""
    if not (shared / "few.fa").exists():
        made = small(NAME, shared).config.data.train.path
        (shared / "few.fa").write_text("\n".join(Path(made).read_text().splitlines()[:LINES]) + "\n")

    def find(name: str) -> Small:
        dna = (f"data.train.path={shared / 'few.fa'}",) if name.startswith("dna") else ()
        return small(name, shared).but(*dna)

    return find


@pytest.fixture(scope="module")
def whole(shrunk: Callable, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nobody ended."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    run(shrunk(NAME), folder, *LONGER)
    return folder


# ---- kills ----


@pytest.mark.parametrize(
    ("event", "step"), [("step_ended", 1), ("saved", 3), ("step_ended", 8), ("evaluated", 8), ("saved", 14)]
)
def test_ended_and_resumed_with_its_chances(
    event: str, step: int, whole: Path, shrunk: Callable, tmp_path: Path
) -> None:
    break_off(shrunk(NAME), tmp_path / "run", event, step, *LONGER)
    run(shrunk(NAME), tmp_path / "run", *LONGER)
    assert all_left(tmp_path / "run") == all_left(whole)


def test_a_run_that_folds_its_journal_is_the_same(
    whole: Path, shrunk: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(masking_store, "COMPACT_BYTES", 1)
    monkeypatch.setattr(journal, "SEGMENT_BYTES", 1)
    for moment in (("step_ended", 5), ("saved", 9), ("step_ended", 13)):
        break_off(shrunk(NAME), tmp_path / "run", *moment, *LONGER)
    run(shrunk(NAME), tmp_path / "run", *LONGER)
    assert read_header(tmp_path / "run" / "masking").compacted_step > 0
    assert all_left(tmp_path / "run") == all_left(whole)


def test_resumed_from_an_older_checkpoint(whole: Path, shrunk: Callable, tmp_path: Path) -> None:
    run(shrunk(NAME), tmp_path / "run", *LONGER, "train.keep_last=9")
    run(shrunk(NAME), tmp_path / "run", *LONGER, "train.keep_last=9", resume=str(tmp_path / "run" / "checkpoint-3"))
    assert all_left(tmp_path / "run") == all_left(whole)


@pytest.mark.long
def test_a_kill_storm_changes_no_probability(shrunk: Callable, fast_path: Path, fork_server: ForkServer) -> None:
    """SIGKILL at random moments and before random file operations."""
    brisk = ("train.budget=7 steps", "train.save_every=2 steps", "train.eval_every=4 steps")
    brief = shrunk(NAME).but(*brisk)
    program = Program(PROGRAMS, "train", {"file_name": brief.name, "overrides": list(brief.overrides)})
    met = storm(fork_server, program, fast_path, kills=12, seed=4, look=outcome_with_chances)
    assert met.problems == []


@pytest.mark.parametrize("masking", ["{kind: type_average}", "{kind: bernoulli}", "{kind: adaptive, statistic: nll}"])
def test_every_policy_that_learns_comes_back(masking: str, shrunk: Callable, tmp_path: Path) -> None:
    options = (f"task.masking={masking}", "train.batch_samples=24")
    run(shrunk(NAME), tmp_path / "whole", *options)
    break_off(shrunk(NAME), tmp_path / "run", "step_ended", 5, *options)
    run(shrunk(NAME), tmp_path / "run", *options)
    assert left(tmp_path / "run") == left(tmp_path / "whole")


# ---- who only watches ----


def test_logging_evaluating_saving_and_pieces_change_no_chance(whole: Path, shrunk: Callable, tmp_path: Path) -> None:
    quiet = ("train.eval_every=null", "train.save_every=90 steps", "train.log_every=7", "train.prefetch=2")
    run(shrunk(NAME), tmp_path / "run", *LONGER, *quiet)
    assert chances_of(tmp_path / "run") == chances_of(whole)
    assert left(tmp_path / "run")["model.safetensors"] == left(whole)["model.safetensors"]


def test_evaluation_masks_alike_at_every_moment_and_reads_no_store(
    whole: Path, shrunk: Callable, tmp_path: Path
) -> None:
    """The uniform run judges the same weights by the same masks."""
    from instar.use.evaluate import evaluate

    before = chances_of(whole)
    scores = evaluate(last(whole))
    again = evaluate(last(whole))
    assert scores == again
    assert chances_of(whole) == before
    assert scores["loss"] == lines_of(whole / "metrics.jsonl", "eval")[-1]["loss"]


def test_micro_batches_measure_the_same_places(shrunk: Callable, tmp_path: Path) -> None:
    run(shrunk(NAME), tmp_path / "one", *LONGER, SMOOTH)
    run(shrunk(NAME), tmp_path / "many", *LONGER, SMOOTH, "train.micro_tokens=60")
    one, many = (np.frombuffer(chances_of(tmp_path / name)["value"], np.uint8) for name in ("one", "many"))
    assert ((one == 0) == (many == 0)).all()
    assert np.abs(one.astype(int) - many).max() <= 2


# ---- what is written ----


def test_what_is_written_is_what_the_model_said(
    shrunk: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """1 - p of the right token, by whole logits, at the positions that showed [MASK]; and nowhere else."""
    found: list[tuple[Any, np.ndarray]] = []
    flushed = StoreMemory.measured

    def measured(self: StoreMemory, chosen: Any, values_M: np.ndarray) -> Any:
        found.append((chosen, values_M))
        return flushed(self, chosen, values_M)

    monkeypatch.setattr(StoreMemory, "measured", measured)
    said: list[np.ndarray] = []
    from instar.objective import Objective

    forward = Objective.forward

    def spied(self: Objective, batch: Any) -> Any:
        with torch.no_grad(), evaluation_mode(self.network):
            probability = torch.softmax(self.network(batch).logits_MV(), -1)
            said.append(1 - probability.gather(1, batch.target_M[:, None])[:, 0].numpy())
        return forward(self, batch)

    monkeypatch.setattr(Objective, "forward", spied)
    run(shrunk(NAME), tmp_path / "run", "train.budget=3 steps", "task.mask_share=0.8", "task.random_share=0.1")
    assert len(found) == len(said) == 3
    for (chosen, values_M), wanted_M in zip(found, said, strict=True):
        np.testing.assert_allclose(values_M, wanted_M, atol=1e-5)
        assert 0.6 < chosen.is_written_M.mean() < 0.95
    arrays = np.frombuffer(chances_of(tmp_path / "run")["value"], np.uint8)
    written = np.concatenate([chosen.spans[chosen.is_written_M].characters() for chosen, _ in found])
    assert set(np.flatnonzero(arrays)) == set(written.tolist())


def test_the_chances_change_what_is_hidden_and_the_share_stays(shrunk: Callable, tmp_path: Path) -> None:
    options = (*LONGER, "train.budget=30 steps", "data.eval=null", "train.log_every=1", "train.optimizer.lr=0.01")
    options = (*options, "task.rate=0.2")
    run(shrunk(NAME), tmp_path / "run", *options)
    rows = [json.loads(line) for line in (tmp_path / "run" / "masking.jsonl").read_text().splitlines()]
    assert all(abs(row["realised_rate"] - 0.2) < 0.005 for row in rows)
    tokens, masked = (
        np.sum([row[name] for row in rows[4:]], axis=0) for name in ("tokens_by_decile", "masked_by_decile")
    )
    rates = masked / np.maximum(tokens, 1)
    met = np.flatnonzero(tokens > 200)
    assert len(met) > 1
    assert rates[met[-1]] > rates[met[0]]


def test_the_uniform_recipe_is_the_adaptive_one_but_for_its_masking(shrunk: Callable) -> None:
    """Otherwise nothing could be concluded from the two."""
    dumped = [shrunk(name).config.model_dump(mode="json") for name in (NAME, "dna-mlm-uniform")]
    for one in dumped:
        one["task"].pop("masking")
    assert dumped[0] == dumped[1]


# ---- ranks ----


def test_two_ranks_write_what_one_writes(shrunk: Callable, tmp_path: Path, fork_server: ForkServer) -> None:
    """Each keeps its own journal; all see the same probabilities, so all masks are those of one process."""
    options = (*LONGER, SMOOTH, "train.max_norm=0.05", "train.batch_samples=7")
    run(shrunk(NAME), tmp_path / "one", *options)
    assert on_ranks(fork_server, shrunk(NAME), tmp_path / "two", *options) == [0, 0]
    assert journal.ranks(tmp_path / "two" / "masking") == [0, 1]
    one, two = (np.frombuffer(chances_of(tmp_path / name)["value"], np.uint8) for name in ("one", "two"))
    assert ((one == 0) == (two == 0)).all()
    assert np.abs(one.astype(int) - two).max() <= 2
    rates = [(tmp_path / name / "masking.jsonl").read_text().count("realised_rate") for name in ("one", "two")]
    assert rates[0] == rates[1]


def test_ranks_that_leave_come_back_with_their_chances(
    shrunk: Callable, tmp_path: Path, fork_server: ForkServer
) -> None:
    longer = shrunk(NAME).but(*LONGER)
    assert on_ranks(fork_server, longer, tmp_path / "two", signals=[[5, int(signal.SIGTERM)]]) == [75, 75]
    assert on_ranks(fork_server, longer, tmp_path / "two") == [0, 0]
    assert on_ranks(fork_server, longer, tmp_path / "whole") == [0, 0]
    assert chances_of(tmp_path / "two") == chances_of(tmp_path / "whole")
    assert left(tmp_path / "two") == left(tmp_path / "whole")


# ---- bad input ----


def test_a_disk_that_fills_up_ends_the_run_and_loses_nothing_saved(
    whole: Path, shrunk: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    append, calls = journal.write_all, iter(range(100))

    def fills_up(file: Any, content: bytes) -> None:
        if next(calls) >= 9:
            append(file, content[: len(content) // 2])
            raise OSError(errno.ENOSPC, "No space left on device")
        append(file, content)

    with monkeypatch.context() as patch:
        patch.setattr(journal, "write_all", fills_up)
        with pytest.raises(DiskError, match=r"masking.*bytes needed"):
            run(shrunk(NAME), tmp_path / "run", *LONGER)
    run(shrunk(NAME), tmp_path / "run", *LONGER)
    assert all_left(tmp_path / "run") == all_left(whole)


def test_a_store_that_another_run_has(shrunk: Callable, tmp_path: Path) -> None:
    from instar.masking.store import StoreLock

    held = StoreLock(tmp_path / "shared")
    with pytest.raises(OutputError, match=r"masking store .*held by process [0-9]+"):
        run(shrunk(NAME), tmp_path / "run", f"task.masking.store={tmp_path / 'shared'}")
    held.release()
    run(shrunk(NAME), tmp_path / "other", f"task.masking.store={tmp_path / 'shared'}")
    assert read_header(tmp_path / "shared").statistic == "one_minus_p"
    before = {path.name: path.read_bytes() for path in (tmp_path / "shared").glob("*.bin")}
    with pytest.raises(OutputError, match=r"holds the masking values of the run .*other"):
        run(shrunk(NAME), tmp_path / "third", f"task.masking.store={tmp_path / 'shared'}")
    assert {path.name: path.read_bytes() for path in (tmp_path / "shared").glob("*.bin")} == before


def test_a_store_of_other_data_and_a_lost_journal(whole: Path, shrunk: Callable, tmp_path: Path) -> None:
    store = tmp_path / "store"
    run(shrunk(NAME), tmp_path / "run", f"task.masking.store={store}")
    (tmp_path / "text.txt").write_text("one two three four five six seven eight nine ten eleven twelve\n" * 40)
    text = (f"data.train.path={tmp_path / 'text.txt'}", "data.train.documents=line", "data.eval=null")
    with pytest.raises(DataError, match="holds the probabilities of another corpus"):
        run(shrunk("text-mlm-adaptive"), tmp_path / "text", *text, f"task.masking.store={store}")
    shutil.copytree(whole, tmp_path / "copy")
    for segment in journal.segments(tmp_path / "copy" / "masking"):
        segment.path.write_bytes(segment.path.read_bytes()[:100])
    with pytest.raises(CheckpointError, match="damaged or missing"):
        run(shrunk(NAME), tmp_path / "copy", *LONGER, "train.budget=16 steps")


def test_preparing_a_run_writes_nothing(shrunk: Callable, tmp_path: Path) -> None:
    from rich.console import Console

    from instar.core.rundir import RunFolder
    from instar.trainer import Runtime

    prepare(shrunk(NAME).config, RunFolder(tmp_path / "run"), Runtime(), None, console=Console(quiet=True))
    assert not (tmp_path / "run").exists()


def test_a_bit_that_flips_in_the_values_ends_the_run_before_it_saves(
    shrunk: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(masking_store, "COMPACT_BYTES", 1)
    folder = tmp_path / "run"
    break_off(shrunk(NAME), folder, "step_ended", 13, *LONGER)
    assert read_header(folder / "masking").compacted_step > 0
    kept, before = last(folder), sorted(path.name for path in folder.glob("checkpoint-*"))
    path = folder / "masking" / "value.bin"
    whole = path.read_bytes()
    path.write_bytes(bytes([whole[0] ^ 4]) + whole[1:])
    with pytest.raises(CheckpointError, match=r"value.bin: bytes 0 to .* are not what was written there"):
        run(shrunk(NAME), folder, *LONGER)
    assert (last(folder), sorted(path.name for path in folder.glob("checkpoint-*"))) == (kept, before)
    path.write_bytes(whole)
    run(shrunk(NAME), folder, *LONGER)
