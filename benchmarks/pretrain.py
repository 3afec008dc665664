"""instar beside the stock Transformers `Trainer`: same weights, data, optimizer and threads, in alternating processes.

python benchmarks/pretrain.py                     all workloads, five rounds; writes the table in benchmarks/README.md
python benchmarks/pretrain.py --workload a --rounds 3
python benchmarks/pretrain.py --quick             one short round, nothing written: does everything still work?
"""

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.workloads import WORKLOADS, Prepared, Workload, prepare  # noqa: E402 (run as a script)

README = ROOT / "benchmarks" / "README.md"
BEGIN, END = "<!-- results: begin -->", "<!-- results: end -->"
VARIANTS = {"a": ("stock", "by_length", "grouped")}
THEIRS = {
    "stock": "the Trainer at its defaults",
    "by_length": "the Trainer with group_by_length",
    "grouped": "the Trainer on texts grouped to 128 tokens",
}
OURS = {"instar": "run file", "face": "`instar.Trainer`", "face_padded": "`instar.Trainer`, `fast_path=False`"}
FACE_SHARE = 0.7
"""Share of a run file's goal that the same script with instar's `Trainer` is to reach."""


@dataclass(frozen=True)
class Measured:
    """What the rounds of one workload gave, by side."""

    speeds: dict[str, list[float]]
    losses: dict[str, list[float]]
    peaks: list[float]
    facts: dict[str, Any]


def main() -> None:
    """Compare, print the table, and keep it."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the side that is running ends with the frame
    options = _options()
    os.environ["OMP_NUM_THREADS"] = str(options.threads)
    os.environ |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "TRANSFORMERS_VERBOSITY": "error"}
    if options.worker:
        print(f"RESULT {json.dumps(_work(options))}")
        return
    chosen = [WORKLOADS[name] for name in (options.workload or WORKLOADS)]
    rounds = 1 if options.quick else options.rounds
    rows = []
    for workload in chosen:
        rows += _compare(workload, rounds, options)
        print("\n".join(_table(rows)), flush=True)
    if not options.quick:
        _write(rows, options.threads)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").split("\n\n", maxsplit=1)[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--workload", action="append", choices=WORKLOADS, help="may be repeated; all if not given")
    parser.add_argument("--rounds", type=int, default=5, help="rounds; the median is reported")
    parser.add_argument("--threads", type=int, default=min(2, os.cpu_count() or 1), help="CPU threads of both sides")
    parser.add_argument("--quick", action="store_true", help="one short round; writes nothing")
    parser.add_argument("--worker", choices=("prepare", "calibrate", *OURS, *THEIRS), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--steps", type=int, help=argparse.SUPPRESS)
    return parser.parse_args()


def _work(options: argparse.Namespace) -> dict[str, Any]:
    """One side of one round, in the process that the frame started for it."""
    import torch

    torch.set_num_threads(options.threads)
    if options.worker == "calibrate":
        return {"gflops": _matmul_speed()}
    workload = WORKLOADS[options.workload[0]]
    if options.worker == "prepare":
        return prepare(workload, options.folder, options.steps).facts
    from benchmarks.sides import run_instar, run_trainer

    prepared = Prepared.load(options.folder)
    if options.worker == "instar":
        return run_instar(workload, prepared, options.steps)
    return run_trainer(workload, prepared, options.steps, options.worker)


def _matmul_speed() -> float:
    """Best float32 GFLOP/s of a product of the benchmark's size, by the faster library."""
    import torch

    from instar.model.speed import use_fast_cpu

    use_fast_cpu()
    left, right = torch.randn(1472, 384), torch.randn(384, 1536)
    best = float("inf")
    for _ in range(40):
        start = time.perf_counter()
        left @ right
        best = min(best, time.perf_counter() - start)
    return 2 * 1472 * 384 * 1536 / best / 1e9


def _spawn(worker: str, options: argparse.Namespace, *arguments: str) -> dict[str, Any]:
    command = [sys.executable, __file__, "--worker", worker, "--threads", str(options.threads), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=1800)
    found = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    if done.returncode or not found:
        sys.exit(f"{worker} failed with status {done.returncode}:\n{done.stderr[-3000:]}")
    result: dict[str, Any] = json.loads(found[-1].removeprefix("RESULT "))
    return result


def _compare(workload: Workload, rounds: int, options: argparse.Namespace) -> list[dict[str, Any]]:
    """All sides in turn, round by round; one row for each pair: run file and each stock Trainer, face and stock."""
    variants = VARIANTS.get(workload.name, ("stock",))
    warm = workload.warm
    steps = dict.fromkeys(("instar", "face"), warm + (4 if options.quick else workload.steps))
    steps |= dict.fromkeys(("face_padded", *variants), warm + (2 if options.quick else workload.stock_steps))
    speeds: dict[str, list[float]] = {side: [] for side in steps}
    losses: dict[str, list[float]] = {}
    peaks: list[float] = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / workload.name
        place = ("--workload", workload.name, "--folder", str(folder), "--steps")
        # Grouping joins short samples, so that side needs more of them for as many steps.
        facts = _spawn("prepare", options, *place, str(4 * max(steps.values())))
        for number in range(rounds):
            # Who begins changes from round to round, so that a machine that warms up favours nobody.
            for side in sorted(steps, reverse=number % 2 == 1):
                peaks.append(_spawn("calibrate", options)["gflops"])
                result = _spawn(side, options, *place, str(steps[side]))
                speeds[side].append(result["tokens_per_second"])
                losses.setdefault(side, result["losses"])
            shown = ", ".join(f"{side} {values[-1]:,.0f}" for side, values in speeds.items())
            print(
                f"({workload.name}) round {number + 1}: {shown} tokens/s; matmul {peaks[-1]:,.0f} GFLOP/s", flush=True
            )
    print(f"({workload.name}) {'; '.join(facts['notes']) or 'reference data'}; {facts['parameters']:,} parameters")
    measured = Measured(speeds, losses, peaks, facts)
    pairs = [("instar", variant) for variant in variants] + [("face", "stock"), ("face_padded", "stock")]
    return [_row(workload, ours, theirs, measured) for ours, theirs in pairs]


def _row(workload: Workload, mine: str, variant: str, measured: Measured) -> dict[str, Any]:
    speeds, losses, facts = measured.speeds, measured.losses, measured.facts
    ratios = [ours / theirs for ours, theirs in zip(speeds[mine], speeds[variant], strict=True)]
    flops = workload.flops_per_token(facts["vocabulary"], facts["mean_length"])
    peak = median(measured.peaks) * 1e9
    same = min(len(losses[mine]), len(losses[variant]))
    goals = {"instar": workload.goal, "face": round(FACE_SHARE * workload.goal, 1), "face_padded": 1.0}
    return {
        "workload": f"({workload.name}) {workload.title}",
        "side": OURS[mine],
        "peer": THEIRS[variant],
        "theirs": median(speeds[variant]),
        "ours": median(speeds[mine]),
        "ratio": median(ratios),
        "low": min(ratios),
        "high": max(ratios),
        "goal": goals[mine] if variant == "stock" else 3.0,
        "their_loss": (losses[variant][0], losses[variant][same - 1]),
        "our_loss": (losses[mine][0], losses[mine][same - 1]),
        "steps": same,
        "their_share": median(speeds[variant]) * flops / peak,
        "our_share": median(speeds[mine]) * flops / peak,
        "peak": median(measured.peaks),
        "rounds": len(ratios),
        "notes": facts["notes"],
    }


def _table(rows: list[dict[str, Any]]) -> list[str]:
    lines = [
        "| workload | instar by | peer | peer tokens/s | instar tokens/s | ratio (min-max) | wanted "
        "| loss at step 1 and n: peer | instar | share of matmul peak: peer | instar |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        loss = [f"{row[side][0]:.3f}, {row[side][1]:.3f} (n = {row['steps']})" for side in ("their_loss", "our_loss")]
        lines.append(
            f"| {row['workload']} | {row['side']} | {row['peer']} | {row['theirs']:,.0f} | {row['ours']:,.0f} "
            f"| {row['ratio']:.1f} ({row['low']:.1f}-{row['high']:.1f}) | {row['goal']:g} "
            f"| {loss[0]} | {loss[1]} | {row['their_share']:.0%} | {row['our_share']:.0%} |"
        )
    return lines


def _write(rows: list[dict[str, Any]], threads: int) -> None:
    """Put the table between the marks of benchmarks/README.md."""
    from importlib.metadata import version

    packages = ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers"))
    load = os.getloadavg()[0]
    rounds = min(row["rounds"] for row in rows)
    peak = median(row["peak"] for row in rows)
    notes = sorted({note for row in rows for note in row["notes"]})
    about = (
        f"{datetime.now(UTC):%Y-%m-%d}, {_processor()}, {os.cpu_count()} cores, {threads} threads a side, {packages}, "
        f"float32, median of {rounds} rounds; load {load:.1f} at the end; float32 matmul {peak:,.0f} GFLOP/s"
        f"{''.join('; ' + note for note in notes)}."
    )
    text = README.read_text()
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    README.write_text("\n".join([before + BEGIN, about, "", *_table(rows), END + after]))


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


if __name__ == "__main__":
    main()
