"""A run of several stages: each trains its own parts its own way, and it resumes anywhere, bit for bit."""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from runs import SMOOTH, Kill, Killed, break_off, distance, last, left, losses, run, tensors
from safetensors.torch import load_file
from test_parallel import EXACT, FEW, ranks

from instar.core.errors import ConfigError, DataError, OutputError
from instar.core.files.json_files import read_lines
from instar.run.check import check, describe
from instar.run.status import status
from instar.trainer import Callback, StepResult, TrainState
from instar.use.evaluate import evaluate

STAGES = (
    "stages=[{budget: 4 steps, optimizer: {kind: adamw, lr: 0.01}}, "
    "{budget: 3 steps, frozen: ['*embed*'], schedule: {kind: constant}}, {budget: 2 steps, trainable: ['*.1.*']}]"
)
MORE = {
    "text-mlm": (STAGES, "model.dropout=0.1"),
    "movie-rating": (STAGES, "train.average={decay: 0.9}"),
    "splice-classify": (STAGES, "train.optimizer={kind: muon}", "train.save_every=2 steps"),
}
POINTS = [("saved", 4), ("step_ended", 4), ("step_ended", 5), ("evaluated", 7), ("saved", 9)]


@pytest.mark.parametrize(
    ("name", "point"),
    [
        *(("text-mlm", point) for point in POINTS),
        *((name, point) for name in ("movie-rating", "splice-classify") for point in POINTS[:3:2]),
    ],
)
def test_ended_and_resumed(
    name: str, point: tuple[str, int], shrunk: Callable, reference: Callable, tmp_path: Path
) -> None:
    """Inside of each stage, and on both sides of each boundary."""
    wanted = reference(name, *MORE[name])
    break_off(shrunk(name), tmp_path / "run", *point, *MORE[name])
    run(shrunk(name), tmp_path / "run", *MORE[name])
    assert left(tmp_path / "run") == left(wanted)


def test_killed_while_the_next_stage_is_prepared(shrunk: Callable, reference: Callable, tmp_path: Path) -> None:
    class AtItsBeginning(Kill):
        def fit_started(self, state: Any) -> None:
            if state.stage == 1:
                raise Killed

    more = MORE["text-mlm"]
    with pytest.raises(Killed):
        run(shrunk("text-mlm"), tmp_path / "run", *more, extra=[AtItsBeginning("", 0)])
    run(shrunk("text-mlm"), tmp_path / "run", *more)
    assert left(tmp_path / "run") == left(reference("text-mlm", *more))


@pytest.mark.parametrize("name", ["text-gpt", "movie-rating"])
def test_one_stage_is_a_run_without_stages(name: str, shrunk: Callable, reference: Callable, tmp_path: Path) -> None:
    run(shrunk(name), tmp_path / "run", "stages=[{}]")
    assert left(tmp_path / "run") == left(reference(name))


def test_each_stage_trains_its_own_parts_and_counts_on(reference: Callable) -> None:
    folder = reference("text-mlm", *MORE["text-mlm"], "train.keep_last=9", "train.save_every=1 steps")
    lines = [line for line in read_lines(folder / "metrics.jsonl") if line["split"] == "train"]
    assert [(line["step"], line["stage"]) for line in lines] == [(n, 1 + (n > 4) + (n > 7)) for n in range(1, 10)]
    assert lines[3]["lr"] != lines[4]["lr"]
    ends = [load_file(folder / f"checkpoint-{step}" / "model.safetensors") for step in (4, 7, 9)]
    moved = [{name for name in one if not torch.equal(one[name], two[name])} for one, two in pairwise(ends)]
    assert moved[0]
    assert not any("embed" in name for name in moved[0])
    assert moved[1]
    assert all(".1." in name for name in moved[1])
    assert evaluate(last(folder))["loss"] == pytest.approx(
        [line for line in read_lines(folder / "metrics.jsonl") if line["split"] == "eval"][-1]["loss"], rel=1e-6
    )
    assert status(folder)["state"] == "done"
    assert status(folder)["stage"] == "3 of 3"


def test_a_stage_with_data_of_its_own(shrunk: Callable, tmp_path: Path) -> None:
    """Same tokenizer; ended and resumed within it and at its beginning."""
    (tmp_path / "other.txt").write_text("\n".join(f"a man of {n} words went to town and came back" for n in range(60)))
    data = f"{{train: {{kind: text, path: '{tmp_path / 'other.txt'}'}}, eval: {{split: 0.2}}, max_length: 32"
    data += f", too_long: window, cache: '{tmp_path / 'cache'}'}}"
    more = (f"stages=[{{budget: 3 steps}}, {{budget: 3 steps, data: {data}}}]",)
    run(shrunk("text-mlm"), tmp_path / "whole", *more)
    run(shrunk("text-mlm"), tmp_path / "plain", "stages=[{budget: 3 steps}, {budget: 3 steps}]")
    assert losses(tmp_path / "whole")[:3] == losses(tmp_path / "plain")[:3]
    assert losses(tmp_path / "whole")[3:] != losses(tmp_path / "plain")[3:]
    for number, point in enumerate((("saved", 3), ("step_ended", 5))):
        break_off(shrunk("text-mlm"), tmp_path / f"run-{number}", *point, *more)
        run(shrunk("text-mlm"), tmp_path / f"run-{number}", *more)
        assert left(tmp_path / f"run-{number}") == left(tmp_path / "whole")


def test_other_labels_are_refused(shrunk: Callable, tmp_path: Path) -> None:
    (tmp_path / "rows.tsv").write_text("text\tkind\n" + "good film\tup\nbad film\tdown\n" * 20)
    source = f"{{kind: csv, path: '{tmp_path / 'rows.tsv'}', label: kind}}"
    data = f"{{train: {source}, eval: {{split: 0.2}}, max_length: 32, too_long: truncate"
    data += f", cache: '{tmp_path / 'cache'}'}}"
    with pytest.raises(DataError, match=r"have the labels down, up, and the head's .*; name them in task.labels"):
        run(
            shrunk("splice-classify"), tmp_path / "run", "data.allow_unknown_tokens=true",
            f"stages=[{{budget: 2 steps}}, {{budget: 2 steps, data: {data[:-1]}, allow_unknown_tokens: true}}}}]",
        )  # fmt: skip


@pytest.mark.parametrize("parallel", ["{kind: fsdp}", "{kind: ddp}"])
def test_ranks_go_through_stages_alike(parallel: str, shrunk: Callable, tmp_path: Path, fork_server: Any) -> None:
    """And change their number within one."""
    more = (*FEW, *EXACT, SMOOTH, STAGES, "train.average={decay: 0.9}")
    run(shrunk("text-mlm"), tmp_path / "one", *more)
    codes, life = ranks(
        fork_server, shrunk("text-mlm"), tmp_path / "two", *more, f"train.parallel={parallel}", world=2, until=5
    )
    assert codes == [75, 75], life.output
    codes, life = ranks(fork_server, shrunk("text-mlm"), tmp_path / "two", *more, f"train.parallel={parallel}", world=2)
    assert codes == [0, 0], life.output
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), rel=1e-6)
    for file in ("model.safetensors", "optimizer.safetensors", "average.safetensors"):
        assert distance(tmp_path / "one", tmp_path / "two", file) < 1e-6


@pytest.mark.parametrize(
    ("stages", "said"),
    [
        ("[{budget: 2 steps}, {budget: 2 steps, trainable: ['no.such.*']}]", "matches no parameter"),
        ("[{budget: 2 steps}, {}]", r"stages\.1\.budget: say how long"),
        ("[{budget: 2 steps}, {budget: 2 steps, frozen: true, trainable: ['*']}]", r"stages\.1: frozen: true changes"),
        ("[{budget: 2 steps}, {budget: 2 steps, schedule: {kind: continue}}]", r"goes on from a checkpoint"),
        ("[{budget: 2 steps, budgets: 3}]", "budgets"),
    ],
)
def test_faults_of_later_stages_are_found_at_once(stages: str, said: str, shrunk: Callable, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=said):
        run(shrunk("text-mlm"), tmp_path / "run", f"stages={stages}")
    assert not (tmp_path / "run").exists()


def test_an_earlier_stage_cannot_change_its_budget(shrunk: Callable, tmp_path: Path) -> None:
    break_off(shrunk("text-mlm"), tmp_path / "run", "saved", 3, STAGES)
    with pytest.raises(OutputError, match=r"stages\.0\.budget was"):
        run(shrunk("text-mlm"), tmp_path / "run", STAGES.replace("budget: 4 steps", "budget: 5 steps"))


def test_check_shows_each_stage(shrunk: Callable) -> None:
    small = shrunk("text-mlm").but(STAGES)
    found = check(small.file, small.overrides)
    assert [stage["budget"] for stage in found["stages"]] == ["4 steps", "3 steps", "2 steps"]
    assert found["stages"][0]["frozen"] == 0 < found["stages"][1]["frozen"] < found["stages"][2]["frozen"]
    assert any(line.startswith("stage 2 of 3: 3 steps; ") for line in describe(found))


def test_tensors_of_a_stage_are_in_its_optimizer_alone(reference: Callable) -> None:
    held = tensors(reference("movie-rating", *MORE["movie-rating"]), "optimizer.safetensors")
    assert held
    assert all(".1." in name for name in held)


def test_early_stopping_ends_a_stage_and_the_next_begins(shrunk: Callable, reference: Callable, tmp_path: Path) -> None:
    """Gains are counted anew in the next stage; killed where the first one ended."""
    more = (
        "stages=[{budget: 90 steps}, {budget: 5 steps, trainable: ['*.1.*']}]",
        "train.early_stopping={patience: 2, min_gain: 9.0}", "train.eval_every=1 steps", "train.log_every=2",
    )  # fmt: skip
    summary = run(shrunk("text-mlm"), tmp_path / "whole", *more)
    lines = [line for line in read_lines(tmp_path / "whole" / "metrics.jsonl") if line["split"] == "eval"]
    assert [(line["step"], line["stage"]) for line in lines] == [(1, 1), (2, 1), (3, 1), (4, 2), (5, 2), (6, 2)]
    assert "no gain in loss for 2 evaluations" in summary["stopped"]
    lines = [line for line in read_lines(tmp_path / "whole" / "metrics.jsonl") if line["split"] == "train"]
    assert [(line["step"], line["stage"]) for line in lines] == [(2, 1), (4, 2), (6, 2)]
    alone = list(read_lines(reference("text-mlm", *more[:3]) / "metrics.jsonl"))
    assert lines[1]["loss"] == next(line["loss"] for line in alone if line["split"] == "train" and line["step"] == 4)
    break_off(shrunk("text-mlm"), tmp_path / "run", "saved", 3, *more)
    run(shrunk("text-mlm"), tmp_path / "run", *more)
    assert left(tmp_path / "run") == left(tmp_path / "whole")


def test_a_stage_reads_its_data_from_the_first_sample_in_an_order_of_its_own(shrunk: Callable, tmp_path: Path) -> None:
    class Reads(Callback):
        def __init__(self) -> None:
            self.samples: dict[int, list[int]] = {0: [], 1: []}

        def step_ended(self, state: TrainState, result: StepResult) -> None:
            self.samples[state.stage] += result.samples_D.tolist()

    reads = Reads()
    few = ("train.eval_every=50 steps", "train.save_every=50 steps")
    summary = run(
        shrunk("text-mlm"), tmp_path / "run", "stages=[{budget: 1 epochs}, {budget: 1 epochs}]", *few, extra=[reads]
    )
    first, second = reads.samples.values()
    assert summary["samples"] == len(first) + len(second)
    assert sorted(first) == sorted(second) == sorted(set(first))
    assert first != second
