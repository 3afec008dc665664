"""What `demo --genome` measures of two runs that differ in their masking only.

Letters: N characters of the corpus, W held-out windows.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from instar.core.errors import DataError
from instar.data.located import Located
from instar.data.source import Genome
from instar.demo.child import Stage
from instar.demo.network import Subject
from instar.genome.annotation import Feature, summarise
from instar.genome.track import Track, empty_track
from instar.inference.evaluate import Evaluator
from instar.masking import journal
from instar.masking.draws import maskable_index
from instar.masking.offsets import Spans
from instar.masking.store_options import spans_of
from instar.run.masking import STORE, offsets_of
from instar.run.prepare import make_stream
from instar.task import StepContext
from instar.tracks.stored import Stored, sizes_of

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
CLASSES = 10
"""Classes of features that are shown: those with the most bases."""


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One of the two runs."""

    loss: float
    """Nats a masked base of the held-out windows, masked uniformly; the same positions for both runs."""
    rate: float
    """Share of the tokens that were masked in training."""
    masked: Track
    """How often each base was masked in training."""
    p_true: Track
    """Probability of the right base, each masked once, by the final weights."""


@dataclass(frozen=True, kw_only=True)
class ClassRow:
    """A class of features in both runs."""

    kind: str
    num_bases: int
    uniform_share: float
    """Of the tokens that the uniform run hid."""
    adaptive_share: float
    uniform_p_true: float
    adaptive_p_true: float


@dataclass(frozen=True, kw_only=True)
class Beside:
    """Both runs."""

    uniform: Arm
    adaptive: Arm
    error: float
    """Standard error, over held-out windows, of the difference of the losses."""
    classes: tuple[ClassRow, ...]

    @property
    def gain(self) -> float:
        """How far the adaptive run's loss lies below the uniform run's."""
        return self.uniform.loss - self.adaptive.loss

    def verdict(self) -> str:
        """Which run was better, as far as one pair of runs can show."""
        margin = f"by {abs(self.gain):.4f} nats (standard error over the held-out windows {self.error:.4f})"
        if abs(self.gain) < 2 * self.error:
            return f"No difference that held-out windows could tell from chance: {margin}."
        better, worse = ("Adaptive", "uniform") if self.gain > 0 else ("Uniform", "adaptive")
        return f"{better} masking was better than {worse} masking in this pair of runs, {margin}."


def compare(uniform: Arm, adaptive: Arm, error: float, features: Sequence[Feature]) -> Beside:
    """Both runs, with their budgets by class of features."""
    rows = [
        {row.kind: row for row in summarise(track, features)}
        for track in (uniform.masked, adaptive.masked, uniform.p_true, adaptive.p_true)
    ]
    masked = [sum(float(part.sum()) for part in arm.masked.values()) for arm in (uniform, adaptive)]
    num_bases = sum(map(len, uniform.masked.values()))
    classes = [
        ClassRow(
            kind=kind,
            num_bases=first.num_bases,
            uniform_share=first.mean * first.num_known / masked[0],
            adaptive_share=rows[1][kind].mean * rows[1][kind].num_known / masked[1],
            uniform_p_true=rows[2][kind].mean,
            adaptive_p_true=rows[3][kind].mean,
        )
        for kind, first in rows[0].items()
        if 0 < first.num_bases < num_bases  # what is everywhere shows nothing
    ]
    return Beside(uniform=uniform, adaptive=adaptive, error=error, classes=tuple(classes[:CLASSES]))


def masked_uniformly(subject: Subject, steps: int) -> tuple[Ints, int]:
    """(how often a uniform run of so many steps hid each character, tokens that it might have masked).

    Its masks are a function of the seed and the step, so they are drawn again rather than kept.
    """
    saved, train = subject.saved, subject.splits.train
    offsets = offsets_of(saved.config, subject.corpus.train)
    stream = make_stream(saved.config, train, Located(train, offsets.first_N[:-1]))
    counts_N = np.zeros(offsets.num_characters, dtype=np.int64)
    might = 0
    for step, batch in zip(range(steps), stream.steps(), strict=False):
        masked = saved.task.prepare(batch, StepContext(seed=saved.config.seed, step=step, progress=step / steps))
        spans = spans_of(batch)
        if spans is None or masked.read_M is None:
            raise ValueError("the batch holds no offsets of its characters")
        _count(counts_N, spans[masked.read_M.numpy()])
        might += len(maskable_index(batch))
    return counts_N, might


def masked_by_journal(stage: Stage, num_characters: int) -> Ints:
    """(N,) how often a run masked each character, by its store's journal: all of it, for so little is not compacted."""
    counts_N = np.zeros(num_characters, dtype=np.int64)
    for record in journal.read(stage.folder / STORE, 0, 0, None):
        _count(counts_N, record.spans)
    return counts_N


def _count(counts_N: Ints, spans: Spans) -> None:
    counts_N += np.bincount(spans.characters(), minlength=len(counts_N))


def on_chromosomes(stored: Stored, counts_N: Ints) -> Track:
    """Counts of the corpus's characters where they lie; 0 in gaps."""
    if not isinstance(stored.source, Genome):
        raise ValueError("a text has no chromosomes")
    track = {name: np.zeros_like(values) for name, values in empty_track(sizes_of(stored.source)).items()}
    for document in range(stored.cache.num_documents):
        first, last = stored.offsets.at(document), stored.offsets.at(document + 1)
        start = stored.cache.start(document)
        track[stored.cache.name(document)][start : start + last - first] = counts_N[first:last]
    return track


def window_losses(subject: Subject) -> tuple[Floats, Ints]:
    """(W,) nats of all masked positions of each held-out window, and how many these are."""
    found = list(_each_window(subject))
    return np.array([loss * count for loss, count in found]), np.array([count for _, count in found])


def _each_window(subject: Subject) -> Iterator[tuple[float, int]]:
    saved = subject.saved
    evaluator = Evaluator(network=saved.network, task=saved.task, seed=saved.config.seed, device=saved.runtime.device)
    for number in range(len(subject.held_out)):
        window = subject.held_out.gather(np.array([number]), np.zeros(1, dtype=np.int64))
        try:
            scores = evaluator.scores([window])
        except DataError:  # so short that none of it is masked
            yield 0.0, 0
            continue
        yield scores["loss"], scores["count"]


def error_of(uniform_W: Floats, adaptive_W: Floats, count_W: Ints) -> float:
    """Standard error of the difference of two mean losses over the same windows."""
    difference_W = uniform_W - adaptive_W
    total = count_W.sum()
    left_W = difference_W - count_W * (difference_W.sum() / total)
    return float(np.sqrt((left_W**2).sum()) / total)


def annotation_of_yeast() -> Path:
    """The features of the chromosome that comes with the package."""
    return Path("embedded:yeast_chrI.gff3.gz")
