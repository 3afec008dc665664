"""What pretraining on little text is worth: `python benchmarks/life.py FOLDER --data DATA`.

A masked and a causal language model read Brown and introductions of Wikipedia, and go on as classifiers of sentences;
beside them the same networks begun fresh, and two floors. A third model reads speeches by characters.

python benchmarks/life.py FOLDER --data DATA texts pretrain --family mlm   one part; two can run side by side
python benchmarks/life.py FOLDER --data DATA        all that is not measured yet, then the tables
python benchmarks/life.py FOLDER --quick            tiny, from data of the package; shows the tables only

All trainings are run files of `instar init` with overrides; FOLDER/results.jsonl has the command of each. DATA/glue is
only measured: sentences of it are written to FOLDER and nowhere else.
"""

import argparse
import json
import os
import shlex
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from instar.cli.init import recipes
from instar.core.files.json_files import read_lines
from instar.core.rundir import RunFolder
from instar.run.train import train
from instar.use.predict import predict_split

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.life_texts import by_counting, make_texts, pairs  # noqa: E402 (run as a script)

PAGES = (ROOT / "benchmarks" / "README.md", ROOT / "docs" / "life.md")
BEGIN, END = "<!-- life: begin -->", "<!-- life: end -->"
PARTS = ("texts", "pretrain", "floors", "cross", "characters", "table")
FAMILIES = ("mlm", "gpt")
STARTS = ("scratch", "pretrained")
TASKS = {"sst2": "accuracy", "movies": "accuracy", "cola": "matthews"}
"""Task -> the score that is reported."""


@dataclass(frozen=True, kw_only=True)
class Size:
    """How large everything is."""

    layers: int = 4
    width: int = 192
    words: int = 8000
    tokens: tuple[tuple[str, int], ...] = (("mlm", 4_000_000), ("gpt", 2_500_000))
    """That each model reads in pretraining."""
    tasks: tuple[str, ...] = tuple(TASKS)
    steps: int = 300
    """Of a fine-tuning, 32 sentences each."""
    rates: tuple[float, ...] = (5e-4, 1.5e-3)
    """Peak learning rates of which one is chosen for each network and start, at seed 0."""
    seeds: int = 3
    character_steps: int = 2000
    rows: int | None = None
    """Sentences of a part, and speeches, at most."""


QUICK = Size(layers=1, width=32, words=300, tokens=(("mlm", 4000), ("gpt", 4000)), tasks=("movies",), steps=2)
QUICK = Size(**{**vars(QUICK), "rates": (1e-3,), "seeds": 2, "character_steps": 4, "rows": 40})


class Results:
    """One JSON object a line, each found again by what it is of."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def all(self, **of: Any) -> list[dict[str, Any]]:
        """Those of which all of this is true."""
        lines = read_lines(self.path) if self.path.exists() else []
        return [line for line in lines if all(line.get(name) == value for name, value in of.items())]

    def one(self, **of: Any) -> dict[str, Any] | None:
        """The last of them; None where there is none."""
        return (self.all(**of) or [None])[-1]

    def keep(self, **line: Any) -> dict[str, Any]:
        """Add a line, whole, also beside another process that adds some."""
        text = json.dumps(line)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(text + "\n")
        print(text[:300], flush=True)
        return line


@dataclass(frozen=True)
class Bench:
    """What all parts work with; the working folder is FOLDER."""

    data: Path | None
    size: Size
    results: Results

    def trained(self, recipe: str, overrides: Sequence[str], run: str) -> dict[str, Any]:
        """Train, or go on; the run's summary, with its command, minutes and minutes of CPU."""
        file = Path(f"{recipe}.yaml")
        if not file.exists():
            file.write_bytes(recipes()[recipe].read_bytes())
        started = time.perf_counter(), time.process_time()
        summary = train(file, overrides, output=Path(run))
        took = time.perf_counter() - started[0], time.process_time() - started[1]
        command = shlex.join(["instar", "train", file.name, *overrides, "--output", run])
        minutes = {"minutes": round(took[0] / 60, 2), "cpu_minutes": round(took[1] / 60, 2)}
        return {**summary, **minutes, "command": command}


def shape(size: Size, family: str) -> list[str]:
    """Overrides for the network of a family."""
    sides = {"num_layers": size.layers, "hidden_size": size.width, "num_heads": 4, "max_length": 128}
    if family == "mlm":
        sides["intermediate_size"] = 2 * size.width  # gated: two such layers
    return [f"model.{name}={value}" for name, value in sides.items()]


def pretrain(bench: Bench, family: str) -> None:
    """A language model of Brown and Wikipedia, by the recipe of its kind made larger."""
    if bench.results.one(part="pretrain", family=family):
        return
    overrides = [
        "data.train={kind: text, path: data/pretrain.txt, documents: line}",
        *("data.eval={split: 0.01}", "data.cache=cache", "data.max_length=128", *shape(bench.size, family)),
        *(f"tokenizer.vocab_size={bench.size.words}", *(["task.rate=0.2"] if family == "mlm" else [])),
        *(f"train.budget={dict(bench.size.tokens)[family]} tokens", "train.batch_tokens=2048"),
        *("train.optimizer.lr=2e-3", "train.threads=1", "train.eval_every=500 steps"),
    ]
    summary = bench.trained(f"text-{family}", overrides, f"runs/{family}")
    bench.results.keep(part="pretrain", family=family, **summary)


def model_of(size: Size, family: str, start: str) -> list[str]:
    """Overrides: the pretrained network, or a fresh one of the same shape and tokenizer."""
    checkpoint = RunFolder(Path("runs") / family).checkpoints()[-1][1]
    if start == "pretrained":
        return [f"model={{from: {checkpoint}, dropout: 0.1}}", "tokenizer=null"]
    config, spread = {"mlm": ("modernbert", 0.06), "gpt": ("gpt2", 0.05)}[family]
    fresh = [f"model.config={config}", f"model.initializer_range={spread}", *shape(size, family)]
    return [*fresh, f"tokenizer={{from: {checkpoint}}}"]


def cross(bench: Bench, task: str, family: str) -> None:
    """Choose rates on the first task's validation part; then all seeds with them, judged by the task's test part."""
    ways = [{"part": "cross", "family": family, "start": start} for start in STARTS]
    chosen = [rate_of(bench, way) for way in ways]
    for seed in range(bench.size.seeds):
        for way, rate in zip(ways, chosen, strict=True):
            classifier(bench, {**way, "task": task}, rate, seed, tests=True)


def rate_of(bench: Bench, way: dict[str, Any]) -> float:
    """The rate that is best at seed 0."""
    of = {**way, "task": bench.size.tasks[0]}
    tried = {rate: classifier(bench, of, rate, 0)["validation"] for rate in bench.size.rates}
    return max(tried, key=lambda rate: tried[rate])


def classifier(bench: Bench, of: dict[str, Any], rate: float, seed: int, *, tests: bool = False) -> dict[str, Any]:
    """One fine-tuning, and what it scores; done before, it is read."""
    known = bench.results.one(**of, rate=rate, seed=seed)
    if known and (not tests or "test" in known):
        return known
    task, family, start = (of[name] for name in ("task", "family", "start"))
    source = "{{kind: csv, path: data/{}_{}.tsv, text: sentence, label: label}}"
    overrides = [
        *(f"seed={seed}", *model_of(bench.size, family, start), *(["task.pooling=mean"] if family == "mlm" else [])),
        *(f"data.{key}={source.format(task, part)}" for key, part in KEYS.items()),
        *(
            "data.max_length=128",
            "data.too_long=truncate",
            "data.cache=cache",
            f"train.budget={bench.size.steps} steps",
        ),
        *(f"train.optimizer.lr={rate}", "train.eval_every=null", "train.threads=1"),
    ]
    run = f"runs/{task}-{family}-{start}-{rate}-{seed}"
    summary = bench.trained("gpt-classify", overrides, run)
    score = TASKS[task]
    line = {**of, "rate": rate, "seed": seed, "validation": summary[f"eval_{score}"], **summary}
    if not tests:
        return bench.results.keep(**line)
    output = Path(f"{run}.jsonl")
    output.unlink(missing_ok=True)
    scores = predict_split(Path(summary["checkpoint"]), split="test", output=output)
    shutil.rmtree(run)
    return bench.results.keep(**line, test=scores[score], scores=scores)


KEYS = {"train": "train", "eval": "validation", "test": "test"}


def floors(bench: Bench, task: str) -> None:
    """What the commoner label and a bag of words score on the test part."""
    if bench.results.one(part="floors", task=task):
        return
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import accuracy_score, matthews_corrcoef
    from sklearn.pipeline import make_pipeline

    read = {part: pairs(Path(f"data/{task}_{part}.tsv")) for part in KEYS.values()}
    (texts, labels), (test_texts, test_labels) = (tuple(zip(*read[part], strict=True)) for part in ("train", "test"))
    score = {"accuracy": accuracy_score, "matthews": matthews_corrcoef}[TASKS[task]]
    commoner = max(sorted(set(labels)), key=labels.count)
    words = make_pipeline(CountVectorizer(), LogisticRegression(max_iter=2000)).fit(texts, labels)
    bench.results.keep(
        part="floors",
        task=task,
        majority=float(score(test_labels, [commoner] * len(test_labels))),
        words=float(score(test_labels, words.predict(test_texts))),
        rows={part: len(rows) for part, rows in read.items()},
    )


def characters(bench: Bench) -> None:
    """The small CPU setting of nanoGPT's readme on speeches, beside what counting gives."""
    if bench.results.one(part="characters"):
        return
    overrides = [
        *(
            "data.train={kind: text, path: data/speeches_train.txt}",
            "data.eval={kind: text, path: data/speeches_held_out.txt}",
        ),
        *("data.max_length=65", "data.overlap=1", "data.cache=cache", "model.max_length=65"),  # 64 are predicted
        *("model.initializer_range=0.02", "tokenizer={kind: character}", "train.batch_tokens=null"),
        *("train.batch_samples=12", f"train.budget={bench.size.character_steps} steps", "train.optimizer.lr=1e-3"),
        *("train.schedule={kind: cosine, warmup: 0.05, floor: 0.1}", "train.eval_every=null", "train.threads=1"),
    ]
    summary = bench.trained("text-gpt", overrides, "runs/characters")
    train, held_out = (Path(f"data/speeches_{part}.txt").read_text(encoding="utf-8") for part in ("train", "held_out"))
    read = 64 * 12 * bench.size.character_steps
    pieces = range(0, len(train), 1000 * max(1, round(len(train) / read)))
    as_many = "".join(train[at : at + 1000] for at in pieces)
    counted = {
        "unigram": by_counting(train, held_out, 1),
        "five_grams_of_as_many": by_counting(as_many, held_out, 5),
        "five_grams": by_counting(train, held_out, 5),
    }
    bench.results.keep(part="characters", **summary, **counted, read=read, train=len(train), held_out=len(held_out))


def spread(scores: Sequence[float]) -> str:
    """Mean and standard deviation."""
    return f"{mean(scores):.3f} ± {stdev(scores):.3f}" if len(scores) > 1 else f"{mean(scores):.3f}"


def tables(bench: Bench) -> str:
    """All that was measured, as Markdown; what is missing is left out."""
    results = bench.results
    lines = ["| read before | tokens | held-out loss | minutes | of a core |", "|---|---|---|---|---|"]
    for family in FAMILIES:
        if line := results.one(part="pretrain", family=family):
            name = {"mlm": "MLM, ModernBERT", "gpt": "GPT-2"}[family]
            took = f"{line['minutes']:.0f} | {line['cpu_minutes']:.0f}"
            lines.append(f"| {name} | {line['tokens']:,} | {line['eval_loss']:.2f} | {took} |")
    heads = [f"{family.upper()} {start}" for family in FAMILIES for start in STARTS]
    lines += ["", f"| task (score; train / test) | majority | bag of words | {' | '.join(heads)} |"]
    lines.append("|---" * (3 + len(heads)) + "|")
    for task, score in TASKS.items():
        if floor := results.one(part="floors", task=task):
            rows = f"{task} ({score}; {floor['rows']['train']:,} / {floor['rows']['test']:,})"
            cells = [cell(results, task, family, start) for family in FAMILIES for start in STARTS]
            lines.append(f"| {rows} | {floor['majority']:.3f} | {floor['words']:.3f} | {' | '.join(cells)} |")
    if line := results.one(part="characters"):
        lines += ["", "| characters of speeches | nats a character, held out |", "|---|---|"]
        lines += [
            f"| unigram | {line['unigram']:.3f} |",
            f"| 5-gram of {line['read']:,} characters | {line['five_grams_of_as_many']:.3f} |",
            f"| 5-gram of all {line['train']:,} | {line['five_grams']:.3f} |",
            f"| GPT 4 x 128, {line['steps']:,} steps = {line['read']:,} characters; {line['minutes']:.1f} minutes "
            f"({line['cpu_minutes']:.1f} of a core) | {line['eval_loss']:.3f} |",
        ]
    return "\n".join(lines)


def cell(results: Results, task: str, family: str, start: str) -> str:
    """Test scores of the chosen rate over seeds, with that rate."""
    lines = [line for line in results.all(part="cross", task=task, family=family, start=start) if "test" in line]
    if not lines:
        return "-"
    by_seed = {line["seed"]: line["test"] for line in lines}
    return f"{spread(list(by_seed.values()))} ({len(by_seed)}; {lines[-1]['rate']:g})"


def keep_tables(text: str) -> None:
    """Put the tables between the marks of the pages that show them."""
    for page in PAGES:
        before, found_begin, rest = page.read_text(encoding="utf-8").partition(BEGIN)
        _, found_end, after = rest.partition(END)
        if not (found_begin and found_end):
            raise SystemExit(f"{page}: wanted the marks {BEGIN} and {END}, for the tables to stand between")
        page.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}", encoding="utf-8")


def main() -> None:
    """Measure what is not measured yet, in order; show the tables, and keep them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; all if none is named")
    parser.add_argument("--data", type=Path, default=os.environ.get("INSTAR_DATA"), help="or INSTAR_DATA")
    parser.add_argument("--family", nargs="+", choices=FAMILIES, default=FAMILIES)
    parser.add_argument("--task", nargs="+", choices=TASKS, default=None)
    parser.add_argument("--quick", action="store_true")
    given = parser.parse_intermixed_args()
    if unknown := set(given.parts) - set(PARTS):
        parser.error(f"wanted parts of {', '.join(PARTS)}; got {', '.join(sorted(unknown))}")
    if given.data is None and not given.quick:
        parser.error("name the folder of data with --data or INSTAR_DATA, or take --quick")
    given.folder.mkdir(parents=True, exist_ok=True)
    data = None if given.quick else given.data.resolve()
    os.chdir(given.folder)
    bench = Bench(data, QUICK if given.quick else Size(), Results(Path("results.jsonl")))
    measure(
        bench, given.parts or PARTS, given.family, [task for task in bench.size.tasks if task in (given.task or TASKS)]
    )
    if "table" in (given.parts or PARTS):
        print(tables(bench))
        if not given.quick:
            keep_tables(tables(bench))


def measure(bench: Bench, parts: Sequence[str], families: Sequence[str], tasks: Sequence[str]) -> None:
    """The parts in their order."""
    if "texts" in parts and not Path("data/pretrain.txt").exists():
        make_texts(bench.data, bench.size.tasks, bench.size.rows)
    for family in families if "pretrain" in parts else ():
        pretrain(bench, family)
    for task in tasks if "floors" in parts else ():
        floors(bench, task)
    for task in tasks if "cross" in parts else ():
        for family in families:
            cross(bench, task, family)
    if "characters" in parts:
        characters(bench)


if __name__ == "__main__":
    main()
