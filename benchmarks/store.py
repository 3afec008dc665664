"""What masking probabilities cost beside HDF5 files, on one batch of the size that genomic models train on.

    .venv/bin/python benchmarks/store.py [--rounds 15] [--json FILE]

64 samples of some 4,000 characters, of which 12,800 tokens are masked and measured. HDF5 is used as adaptive
masking began: a data set for each sample, float16, in one shard.

a1  each token is written into the file                a2  the same, tokens with p > 0.5 only
b1  read a sample, change it in memory, write it back   b2  the same, tokens with p > 0.5 only

Ours: what the training step waits for (handing over), what the thread does (value arrays, journal), and reading a
batch's probabilities. All in one process of one thread, in turns; medians. The promised ratios are checked, on the CPU
time of the thread that calls (others on the machine do not count): exit code 1 if one fails.

    .venv/bin/python -m benchmarks.store --steps a c [--rounds 3]

What adaptive masking adds to a training step of the workloads of `make bench`: runs of both kinds in turns, CPU time
of a step (all threads, the writing one too), medians.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np

from instar.masking.offsets import CharacterOffsets, Spans
from instar.masking.store import Measured, ProbabilityStore, StoreLearner, open_store
from instar.masking.update import Rule
from instar.masking.value_arrays import StoreSchema
from instar.masking.writer import Writer

SAMPLES, CHARACTERS, MASKED = 64, 4000, 12_800
PROMISES = {
    "what the step waits for": ("ours hands over", "b2", 1 / 100),
    "values applied": ("ours applies", "b2", 1 / 20),
    "reading a batch's chances": ("ours reads", "hdf5 reads", 1 / 50),
}


def batch(seed: int) -> tuple[list[np.ndarray], list[np.ndarray], np.ndarray]:
    """Starts and lengths of each sample's tokens, and which are masked."""
    rng = np.random.default_rng(seed)
    starts, lengths, masked = [], [], []
    for _ in range(SAMPLES):
        length = rng.integers(1, 16, CHARACTERS // 8 + 60)
        start = np.concatenate([[0], np.cumsum(length)[:-1]])
        kept = start + length <= CHARACTERS
        starts.append(start[kept])
        lengths.append(length[kept])
        masked.append(rng.random(kept.sum()) < MASKED / SAMPLES / kept.sum())
    return starts, lengths, masked


class Hdf5:
    """One shard with a data set for each sample."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "shard_0.hdf5"
        with h5py.File(self.path, "w") as file:
            for sample in range(SAMPLES):
                file.create_dataset(str(sample), data=np.full(CHARACTERS, np.nan, np.float16))

    def tokens(self, starts: list, lengths: list, masked: list, p: list, threshold: float) -> None:
        with h5py.File(self.path, "a") as file:
            for sample in range(SAMPLES):
                rows = zip(starts[sample][masked[sample]], lengths[sample][masked[sample]], p[sample], strict=True)
                for start, length, value in rows:
                    if value > threshold:
                        file[str(sample)][start : start + length] = 1.0 - value

    def samples(self, starts: list, lengths: list, masked: list, p: list, threshold: float) -> None:
        with h5py.File(self.path, "a") as file:
            for sample in range(SAMPLES):
                if p[sample].max() <= threshold:
                    continue
                data = file[str(sample)][:]
                rows = zip(starts[sample][masked[sample]], lengths[sample][masked[sample]], p[sample], strict=True)
                for start, length, value in rows:
                    if value > threshold:
                        data[start : start + length] = 1.0 - value
                file[str(sample)][:] = data

    def read(self, starts: list, lengths: list) -> list[np.ndarray]:
        """As the original's loader does: the file is locked and opened for each sample, tokens are averaged in turn."""
        from filelock import FileLock

        found = []
        for sample in range(SAMPLES):
            with FileLock(f"{self.path}.lock"), h5py.File(self.path, "a") as file:
                data = file[str(sample)][:]
            data = np.where(np.isnan(data), 1.0, data)
            found.append(np.add.reduceat(data, starts[sample]) / lengths[sample])
        return found


def ours(folder: Path) -> tuple[ProbabilityStore, StoreLearner]:
    """A store of the batch's samples."""
    offsets = CharacterOffsets.of(np.full(SAMPLES, CHARACTERS), "benchmark")
    schema = StoreSchema(
        fingerprint=offsets.fingerprint, num_characters=offsets.num_characters, statistic="one_minus_p"
    )
    store = open_store(folder, schema, rule=Rule())
    return store, StoreLearner(store, 0, 0)


def measured_of(step: int, starts: list, lengths: list, masked: list, p: list) -> Measured:
    """The batch's measurements as ours takes them."""
    start = np.concatenate([s[m] + CHARACTERS * i for i, (s, m) in enumerate(zip(starts, masked, strict=True))])
    length = np.concatenate([one[m] for one, m in zip(lengths, masked, strict=True)])
    values = (1 - np.concatenate(p)).astype(np.float32)
    return Measured(
        step, Spans(start.astype(np.int64), length.astype(np.int64)), values, np.zeros(len(start), np.int64)
    )


class Round:
    """One batch, everything done to it in turn, with the milliseconds of each."""

    def __init__(self, hdf5: Hdf5, store: ProbabilityStore, learner: StoreLearner, writer: Writer) -> None:
        self.hdf5, self.store, self.learner, self.writer = hdf5, store, learner, writer
        self.times: dict[str, list[tuple[float, float]]] = {}

    def run(self, step: int) -> None:
        """The batch of this number; the slow ways of HDF5 (seconds each) in the first two only."""
        starts, lengths, masked = batch(step)
        rng = np.random.default_rng(step)
        p = [rng.beta(0.4, 1.6, int(one.sum())) for one in masked]  # some 14 % lie above one half
        if step < 2:
            self._note("a1", lambda: self.hdf5.tokens(starts, lengths, masked, p, -1.0))
            self._note("a2", lambda: self.hdf5.tokens(starts, lengths, masked, p, 0.5))
        self._note("b1", lambda: self.hdf5.samples(starts, lengths, masked, p, -1.0))
        self._note("b2", lambda: self.hdf5.samples(starts, lengths, masked, p, 0.5))
        self._note("hdf5 reads", lambda: self.hdf5.read(starts, lengths))
        first = np.concatenate([one + CHARACTERS * number for number, one in enumerate(starts)])
        spans = Spans(first.astype(np.int64), np.concatenate(lengths).astype(np.int64))
        self._note("ours reads", lambda: self.store.read(spans, step))
        given = measured_of(step, starts, lengths, masked, p)
        change = self.store.change(given)
        self._note("ours settles", lambda: self.learner.flush(given))
        self._note("ours applies", lambda: self.store.apply(change))
        self.writer.before_reading(step)
        self.writer.after_reading(step)
        self._note("ours hands over", lambda: self.writer.hand_over(step, lambda: given))
        self.writer.flush()

    def _note(self, name: str, call: Callable[[], object]) -> None:
        began, worked = time.perf_counter(), time.thread_time()
        call()
        taken = (1000 * (time.perf_counter() - began), 1000 * (time.thread_time() - worked))
        self.times.setdefault(name, []).append(taken)


def measure(rounds: int) -> dict[str, dict[str, float]]:
    """Milliseconds, by what was done: median and least time that passed, and median CPU time of the caller's thread."""
    with tempfile.TemporaryDirectory() as place:
        store, learner = ours(Path(place) / "store")
        writer = Writer(learner)
        one = Round(Hdf5(Path(place)), store, learner, writer)
        for step in range(rounds):
            one.run(step)
        writer.finish()
        learner.close()
    found = {}
    for name, some in one.times.items():
        passed, worked = zip(*some, strict=True)
        found[name] = {"median": statistics.median(passed), "least": min(passed), "work": statistics.median(worked)}
    return found


def step_cost(name: str, rounds: int) -> float:
    """How much more CPU time a step of a workload takes with adaptive masking, as a share; prints both medians."""
    from benchmarks.workloads import WORKLOADS, prepare

    workload = WORKLOADS[name]
    times: dict[str, list[float]] = {"uniform": [], "adaptive": []}
    with tempfile.TemporaryDirectory() as place:
        prepared = prepare(workload, Path(place) / "prepared", 2)
        for number in range(rounds):
            for kind in times:
                output = Path(place) / f"{kind}-{number}"
                times[kind] += _step_times(prepared.run_file, kind, workload.steps, output)[workload.warm :]
    uniform, adaptive = (statistics.median(times[kind]) for kind in ("uniform", "adaptive"))
    print(
        f"workload {name}: uniform {1000 * uniform:.1f} ms, adaptive {1000 * adaptive:.1f} ms of CPU time a step",
        end="",
    )
    print(f" ({100 * (adaptive / uniform - 1):+.2f} %; promised at most 3 %)")
    return adaptive / uniform - 1


def _step_times(run_file: Path, kind: str, steps: int, output: Path) -> list[float]:
    """CPU seconds of each step but the last, in which the run saves and ends."""
    from instar.run.train import train
    from instar.trainer import Callback

    class Watch(Callback):
        def __init__(self) -> None:
            self.times: list[float] = []

        def step_ended(self, state: object, result: object) -> None:  # noqa: ARG002 (the event's own names)
            self.times.append(time.process_time())

    watch = Watch()
    # The numbers that are not promised (logs, evaluation) are the same on both sides.
    options = [f"train.budget={steps} steps", f"task.masking={{kind: {kind}}}", "train.threads=1"]
    train(run_file, options, output=output, extra=[watch])
    return np.diff(watch.times)[:-1].tolist()


def main() -> int:
    """Measure, print, and check the promises."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--steps", nargs="+", metavar="WORKLOAD", help="measure training steps of these instead")
    asked = parser.parse_args()
    if asked.steps:
        return int(max(step_cost(name, min(asked.rounds, 3)) for name in asked.steps) > 0.03)
    found = measure(asked.rounds)
    print(f"{'':<18}{'median ms':>12}{'least ms':>12}{'work ms':>12}")
    for name, one in found.items():
        print(f"{name:<18}{one['median']:>12.3f}{one['least']:>12.3f}{one['work']:>12.3f}")
    failed = 0
    for what, (mine, theirs, promise) in PROMISES.items():
        ratio = found[mine]["work"] / found[theirs]["work"]
        failed += ratio > promise
        told = "kept" if ratio <= promise else "BROKEN"
        print(f"{what}: 1/{1 / ratio:,.0f} of the work of {theirs}; promised 1/{1 / promise:,.0f}: {told}")
    if asked.json is not None:
        asked.json.write_text(json.dumps(found, indent=1) + "\n")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
