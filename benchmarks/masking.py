"""Does masking that follows the model help? Eleven ways to mask, paired seeds, three corpora.

python benchmarks/masking.py --output FOLDER                   what is missing in FOLDER; writes the table here
python benchmarks/masking.py --output FOLDER --corpus yeast    one corpus (or --seed N): processes can share the work
python benchmarks/masking.py --output FOLDER --table           no run; the table from what is there
python benchmarks/masking.py --output FOLDER --quick           short runs of two arms, nothing written elsewhere
"""

import argparse
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.masking_corpora import Size, make_corpus  # noqa: E402 (run as a script)
from benchmarks.masking_table import (  # noqa: E402
    CONTROL,
    GROUPS,
    WITHIN,
    clear_of,
    complete_seeds,
    paired,
    rows_of,
    table_of,
)

README = ROOT / "benchmarks" / "README.md"
RAW = ROOT / "benchmarks" / "masking.json"
BEGIN, END = "<!-- masking: begin -->", "<!-- masking: end -->"
CORPORA = tuple(GROUPS)
NETWORK: dict[str, Any] = {
    "config": "modernbert",
    "num_layers": 2,
    "hidden_size": 64,
    "num_heads": 4,
    "intermediate_size": 128,
    "max_length": 128,
    "dropout": 0.0,
    "initializer_range": 0.08,
}
BASES = {"kind": "kmer", "k": 1}
LETTERS = {"kind": "character"}
SIZES = {
    "synthetic": Size(train=20_000, held=10_000),
    "yeast": Size(train=24_000, held=16_000),
    "text": Size(train=30_000, held=12_000),
}
QUICK_SIZES = {name: Size(train=4_000, held=2_000) for name in CORPORA}
PLANS: dict[str, dict[str, Any]] = {
    "synthetic": {"tokenizer": BASES, "steps": 500, "shifted_steps": 160, "lr": 6e-3},
    "yeast": {"tokenizer": BASES, "steps": 250, "lr": 6e-3},
    "text": {"tokenizer": LETTERS, "steps": 300, "lr": 6e-3},
}
CONTROLS = {
    "adaptive, one_minus_p": "adaptive, shuffled",
    "adaptive, progress": "adaptive, shuffled",
    "adaptive, 30 to 15 %": "linear 30 to 15 %",
    "bernoulli, as it began": "uniform 30 %",
}
"""What an arm is to be compared with, besides uniform masking at 15 %: the same budget without its values."""
COST_ROUNDS, COST_STEPS = 5, 20
QUICK_ARMS = (CONTROL, "adaptive, one_minus_p")


def main() -> None:
    """Run what is missing, print the tables, and keep them."""
    options = _options()
    os.environ |= {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}
    if not options.table:
        _run_all(options)
        if options.seed is None:
            _time_all(options)
    every = all_rows(options.output, _arms(options))
    told = list(tell(every))
    print("\n".join(told))
    if not options.quick and options.corpus is None and options.seed is None:
        write(told)
        RAW.write_text(raw(every))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").split("\n\n", maxsplit=1)[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--output", type=Path, required=True, help="folder of the results; a run that is there is kept")
    parser.add_argument("--seeds", type=int, default=5, help="paired seeds")
    parser.add_argument("--seed", type=int, action="append", help="only this one of them; may be repeated")
    parser.add_argument("--corpus", action="append", choices=CORPORA, help="may be repeated; all if not given")
    parser.add_argument("--table", action="store_true", help="run nothing; the table from what is there")
    parser.add_argument("--quick", action="store_true", help="runs of a second; writes nothing but its folder")
    return parser.parse_args()


def _run_all(options: argparse.Namespace) -> None:
    import torch

    from benchmarks.masking_runs import run_arm

    torch.set_num_threads(1)
    options.output.mkdir(parents=True, exist_ok=True)
    lines = _lines(options, "results")
    arms = _arms(options)
    done = {(run["corpus"], run["arm"], run["seed"]) for run in read_lines(options.output, "results")}
    for name, seed in _pairs(options):
        corpus, plan, place = _prepared(options, name, seed)
        # Who comes first changes from seed to seed, so that a machine that gets slower favours nobody.
        for arm in [*arms[seed % len(arms) :], *arms[: seed % len(arms)]]:
            if (name, arm, seed) in done:
                continue
            found = {"corpus": name, **run_arm(arm, corpus, plan, seed, place / "run")}
            _append(lines, found)
            print(f"{name}, seed {seed}, {arm}: {found['curve'][-1]['loss']:.3f}", flush=True)


def _time_all(options: argparse.Namespace) -> None:
    """CPU time of a step, in short runs of all arms in turn: in long ones a busy machine favours some."""
    from benchmarks.masking_runs import run_arm

    lines = _lines(options, "costs")
    rounds, steps = (1, 4) if options.quick else (COST_ROUNDS, COST_STEPS)
    done = {line["corpus"] for line in read_lines(options.output, "costs") if line["round"] == rounds}
    for name in [name for name in options.corpus or CORPORA if name not in done]:
        corpus, plan, place = _prepared(options, name, 0)
        short = replace(plan, steps=steps, shifted_steps=0, evaluations=1)
        for number in range(rounds + 1):
            for arm in _arms(options):
                seconds = run_arm(arm, corpus, short, 0, place / "run")["cpu_seconds"] / steps
                if number:  # a process's first steps are slower than the others
                    _append(lines, {"corpus": name, "arm": arm, "round": number, "seconds": seconds})


def _arms(options: argparse.Namespace) -> tuple[str, ...]:
    from benchmarks.masking_runs import ARMS

    return QUICK_ARMS if options.quick else tuple(ARMS)


def _prepared(options: argparse.Namespace, name: str, seed: int) -> tuple[Any, Any, Path]:
    """(corpus, plan of its runs, their folder)."""
    from benchmarks.masking_runs import Plan

    place = options.output / "data" / f"{name}-{seed}"
    corpus = make_corpus(name, seed, (QUICK_SIZES if options.quick else SIZES)[name], place)
    plan = Plan(model=NETWORK, batch_tokens=1024, **PLANS[name])
    if options.quick:
        shifted = 4 if plan.shifted_steps else 0
        plan = replace(plan, steps=6, shifted_steps=shifted, evaluations=3, shifted_evaluations=2)
    return corpus, plan, place


def _lines(options: argparse.Namespace, kind: str) -> Path:
    """The file that this process appends to; a torn last line of an earlier one is taken off."""
    named = [kind, *(options.corpus or CORPORA), *map(str, options.seed or ())]
    path: Path = options.output / f"{'-'.join(named)}.jsonl"
    if path.is_file():
        text = path.read_text(encoding="utf-8")
        path.write_text(text[: text.rfind("\n") + 1], encoding="utf-8")
    return path


def _append(path: Path, found: Mapping[str, Any]) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(found) + "\n")


def _pairs(options: argparse.Namespace) -> Iterator[tuple[str, int]]:
    """Corpora and seeds of this process, seed by seed, so that what is there at any time is of whole seeds."""
    seeds = options.seed or range(2 if options.quick else options.seeds)
    yield from ((corpus, seed) for seed in seeds for corpus in (options.corpus or CORPORA))


def read_lines(folder: Path, kind: str) -> list[dict[str, Any]]:
    """What all processes wrote: results (runs that are done) or costs; a torn last line is none."""
    found: list[dict[str, Any]] = []
    for path in sorted(folder.glob(f"{kind}*.jsonl")):
        whole = path.read_text(encoding="utf-8").split("\n")[:-1]
        found += [json.loads(line) for line in whole]
    return found


def costs_of(lines: Sequence[Mapping[str, Any]], corpus: str, arms: Sequence[str]) -> dict[str, float]:
    """CPU seconds of a step of each arm: the least of the rounds; all alike where nothing was timed."""
    seconds = {
        arm: [line["seconds"] for line in lines if (line["corpus"], line["arm"]) == (corpus, arm)] for arm in arms
    }
    return {arm: min(found) for arm, found in seconds.items()} if all(seconds.values()) else dict.fromkeys(arms, 1.0)


def all_rows(folder: Path, arms: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
    """The rows of each corpus of which a seed is complete."""
    costs, found = read_lines(folder, "costs"), read_lines(folder, "results")
    rows: dict[str, list[dict[str, Any]]] = {}
    for corpus in CORPORA:
        runs = {(run["arm"], run["seed"]): run for run in found if run["corpus"] == corpus}
        if complete_seeds(runs, arms):
            rows[corpus] = rows_of(corpus, runs, arms, costs_of(costs, corpus, arms))
    return rows


def tell(every: Mapping[str, Sequence[Mapping[str, Any]]]) -> Iterator[str]:
    """The tables, and for each of them in words where masking that follows the model helped and where it did not."""
    for corpus, rows in every.items():
        yield from (f"### {corpus}: {len(rows[0]['seeds'])} seeds, {PLANS[corpus]['steps']} steps", "")
        yield from table_of(corpus, rows)
        yield ""
        yield from _in_words(corpus, rows)
        yield ""


def _in_words(corpus: str, rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    measures = {"tokens": "at equal tokens", "seconds": "at equal CPU seconds"}
    measures |= {f"loss {name}": f"on {name}" for name in GROUPS[corpus]}
    if "recovery" in rows[0]["mean"]:
        measures |= {"recovery": f"in tokens until within {WITHIN} nats again", "shifted": "after the shift"}
    for name, words in measures.items():
        better, worse = (clear_of(rows, name, is_better=is_better) for is_better in (True, False))
        rest = len(rows) - 1 - len(better) - len(worse)
        named = [f"{what}: {' / '.join(arms)}" for what, arms in (("better", better), ("worse", worse)) if arms]
        yield f"- {words}: {'; '.join([*named, f'{rest} cannot be told from {CONTROL}'])}."
    each = {row["arm"]: row["each"] for row in rows}
    for arm, other in CONTROLS.items():
        if arm in each and other in each:
            told = [f"{measures[name]} {paired(each[arm], each[other], name).told()}" for name in ("tokens", "seconds")]
            yield f"- {arm} less {other}: {', '.join(told)}."
    yield f"- {_verdict(each)}"


def _verdict(each: Mapping[str, Sequence[Mapping[str, float]]]) -> str:
    """Where following the model helps, and where it does not: beside the same budget without its values."""
    pairs = [(arm, other) for arm, other in CONTROLS.items() if arm in each and other in each]
    differences = {arm: paired(each[arm], each[other], "tokens") for arm, other in pairs}
    helps = [arm for arm, found in differences.items() if found.is_clear and found.mean < 0]
    idle = [arm for arm in differences if arm not in helps]
    words = [f"following the model helped: {' / '.join(helps)}"] if helps else []
    words += [f"following the model did not help: {' / '.join(idle)}"] if idle else []
    return f"Beside the same budget without the model's values, {'; '.join(words) or 'nothing was compared'}."


def raw(every: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """The measures of each run, by corpus and arm, in the order of the seeds; an arm a line."""
    lines = [
        f'"{corpus}: {row["arm"]}": ' + json.dumps({"seeds": row["seeds"], "each": _rounded(row["each"])})
        for corpus, rows in every.items()
        for row in rows
    ]
    return "{\n" + ",\n".join(lines) + "\n}\n"


def _rounded(each: Sequence[Mapping[str, float]]) -> list[dict[str, float]]:
    return [{name: round(value, 4) for name, value in one.items()} for one in each]


def write(told: Sequence[str]) -> None:
    """Put the tables between the marks of benchmarks/README.md."""
    from importlib.metadata import version

    about = f"{datetime.now(UTC):%Y-%m-%d}, one thread, torch {version('torch')}. {CONTROL} shows means, the others"
    about += " their paired difference from it ± half a 95 % interval; bold: 0 lies outside."
    before, rest = README.read_text().split(BEGIN)
    _, after = rest.split(END)
    README.write_text("\n".join([before + BEGIN, about, "", *told, END + after]))


if __name__ == "__main__":
    main()
