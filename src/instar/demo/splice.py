"""Part 6: a network that has read a genome learns to tell splice sites, beside what needs no network."""

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from instar.data.samples import Samples
from instar.demo.child import Children, Stage
from instar.demo.network import Subject, untrained
from instar.demo.plan import Plan
from instar.demo.screen import Bar, Screen

_PAUSE = 0.1


@dataclass(frozen=True, kw_only=True)
class Floors:
    """Shares of the held-out sequences that are classified right without a network."""

    majority: float
    three_mers: float
    """Naive Bayes over counts of three bases, wherever they stand."""
    positions: float
    """Naive Bayes that knows which base stands at which position: the splice site is always in the middle."""


@dataclass(frozen=True, kw_only=True)
class Splice:
    """What the part about DNA measured."""

    num_train: int
    num_held_out: int
    floors: Floors
    genome: float
    """Masked accuracy of the network that read the genome."""
    genome_floor: float
    fine_tuned: float
    fresh: float
    """The same classifier, begun without the genome."""


def classify(screen: Screen, plan: Plan, children: Children) -> Splice:
    """Train on the genome, fine-tune, and compare."""
    screen.part(6, "DNA: which of these 60 bases hold a splice site?")
    screen.say(f"First a network reads yeast chromosome I, with some of its bases masked ({plan.sizes.dna:,} steps):")
    _follow(screen, children, plan.dna, float(plan.sizes.dna), "masked_accuracy")
    genome = untrained(plan.dna)
    scores = plan.dna.lines("eval")[-1]
    screen.say(
        f"It guesses {scores['masked_accuracy']:.1%} of the masked bases of held-out stretches "
        f"(floor: the commonest base, {(floor := commonest_floor(genome)):.1%}). "
        f"Loss {scores['loss']:.4f} nats a base; counting three bases on either side {scores['baseline_loss']:.4f}."
    )
    subject = untrained(plan.splice)
    held_out, train = subject.held_out, subject.splits.train
    screen.say(
        f"From its weights begins a classifier of human and other primate DNA: {len(train):,} sequences to learn "
        f"from, {len(held_out):,} held out."
    )
    floors = measure_floors(subject)
    steps = -(-plan.sizes.splice * len(train) // (subject.saved.config.train.batch_samples or 1))
    _follow(screen, children, plan.splice, float(steps), "accuracy")
    screen.say("The same classifier again, begun without the genome, to see what the genome was good for:")
    _follow(screen, children, plan.fresh, float(steps), "accuracy")
    result = Splice(
        num_train=len(train),
        num_held_out=len(held_out),
        floors=floors,
        genome=float(scores["masked_accuracy"]),
        genome_floor=floor,
        fine_tuned=float(plan.splice.lines("eval")[-1]["accuracy"]),
        fresh=float(plan.fresh.lines("eval")[-1]["accuracy"]),
    )
    screen.say(f"Right of the {result.num_held_out} held-out sequences:")
    screen.table(splice_rows(result))
    return result


def splice_rows(splice: Splice) -> list[tuple[str, str]]:
    """Who was right how often."""
    shares = (
        ("always the commonest class", splice.floors.majority),
        ("3-mer naive Bayes", splice.floors.three_mers),
        ("naive Bayes that knows every base's position", splice.floors.positions),
        ("transformer, begun fresh", splice.fresh),
        ("transformer, fine-tuned from the genome's", splice.fine_tuned),
    )
    error = (splice.fine_tuned * (1 - splice.fine_tuned) / splice.num_held_out) ** 0.5
    rows = [(name, f"{share:.1%}") for name, share in shares]
    return [*rows[:-1], (rows[-1][0], f"{rows[-1][1]}  (standard error {error:.1%})")]


def commonest_floor(subject: Subject) -> float:
    """Masked accuracy of always guessing the commonest base of the training data."""
    from instar.task import StepContext

    saved = subject.saved
    context = StepContext(seed=saved.config.seed, step=0, progress=1.0, evaluating=True)
    size = saved.tokenizer.vocab_size
    train_V, masked_V = np.zeros(size, dtype=np.int64), np.zeros(size, dtype=np.int64)
    for batch in subject.splits.train.batches(1 << 16):
        if batch.maskable_T is not None:
            train_V += np.bincount(batch.ids_T[batch.maskable_T].numpy(), minlength=size)
    for batch in subject.held_out.batches(1 << 14):
        target_M = saved.task.prepare(batch, context).target_M
        if target_M is not None:
            masked_V += np.bincount(target_M.numpy(), minlength=size)
    return float(masked_V[train_V.argmax()] / max(1, masked_V.sum()))


def measure_floors(subject: Subject) -> Floors:
    """Fit the floors on the training sequences and score them on the held-out ones: the classifier's own split."""
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.naive_bayes import BernoulliNB, MultinomialNB
    from sklearn.preprocessing import OneHotEncoder

    documents = [document.text for document in subject.saved.config.data.train.documents()]
    train, train_labels = _labelled(subject, subject.splits.train, documents)
    held_out, labels = _labelled(subject, subject.held_out, documents)
    majority = np.bincount(train_labels).argmax()
    counts = CountVectorizer(analyzer="char", ngram_range=(3, 3), lowercase=False)
    three_mers = MultinomialNB().fit(counts.fit_transform(train), train_labels)
    positions = OneHotEncoder(handle_unknown="ignore")
    by_position = BernoulliNB().fit(positions.fit_transform([list(text) for text in train]), train_labels)
    return Floors(
        majority=float((labels == majority).mean()),
        three_mers=float(three_mers.score(counts.transform(held_out), labels)),
        positions=float(by_position.score(positions.transform([list(text) for text in held_out]), labels)),
    )


def _labelled(subject: Subject, samples: Samples, documents: list[str]) -> tuple[list[str], NDArray[np.int64]]:
    numbers = samples.documents(np.arange(len(samples)))
    labels: NDArray[np.int64] = np.asarray(subject.corpus.train.labels)[numbers].astype(np.int64)
    return [documents[number] for number in numbers], labels


def _follow(screen: Screen, children: Children, stage: Stage, steps: float, score: str) -> None:
    """Train a stage and show how far it is."""
    child = children.start(stage)
    with screen.bar(steps) as bar:
        while child.is_running():
            _show(bar, stage, score)
            children.poll()
            time.sleep(_PAUSE)
        _show(bar, stage, score)


def _show(bar: Bar, stage: Stage, score: str) -> None:
    lines: list[dict[str, Any]] = stage.lines("train")
    if lines:
        held_out = stage.lines("eval")
        figures = f"step {lines[-1]['step']:,}  loss {lines[-1]['loss']:.3f}"
        bar.show(lines[-1]["step"], figures + (f"  held out: {held_out[-1][score]:.1%} right" if held_out else ""))
