"""The corpora of `benchmarks/masking.py`: training and held-out files, and what class each character is of.

Letters: N characters of a file, in the order in which they lie in it.
"""

import gzip
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Codes = NDArray[np.uint8]
BASES = np.frombuffer(b"ACGT", dtype=np.uint8)
EMBEDDED = files("instar.data") / "embedded"

REPEATS = ("A", "AC", "AT", "CAG")
"""Units of the tandem repeats of the synthetic genome."""
NUM_WORDS, WORD_LENGTH, LEAST_DISTANCE = 2, 6, 3
"""The motif grammar: so many words, which differ from each other in so many places at least."""
SEGMENT = (60, 200)
"""Bases of a stretch of one class, from and to."""
SHARES = {"repeat": 0.2, "motif": 0.4, "random": 0.4}
"""Share of the stretches of each class."""
SYNTHETIC_CLASSES = ("repeat", "motif", "motif_half", "random")
ENTROPY = {"repeat": 0.0, "motif": 0.0, "motif_half": float(np.log(2)), "random": float(np.log(4))}
"""Nats of a base of the class, given all that stands around it."""
YEAST_CLASSES = ("coding", "repeat", "other")
YEAST_REPEATS = ("repeat_region", "long_terminal_repeat", "LTR_retrotransposon", "telomere", "nucleotide_match")
HELD_BLOCKS = 8
DECILES = 10


@dataclass(frozen=True, kw_only=True)
class Size:
    """How much of everything."""

    train: int
    """Characters of the synthetic genome to learn from; of text, and of yeast, at most."""
    held: int
    """Characters held out."""


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """Files in a folder, and the class of each of their characters; a text's classes are of tokens instead."""

    folder: Path
    kind: str
    classes: tuple[str, ...]
    shifted: bool = False
    """Whether a second pair of files follows, of a changed grammar."""

    def path(self, part: str) -> Path:
        """The file of a part: train, held, shifted_train, shifted_held."""
        return self.folder / f"{part}.{'fa' if self.kind == 'fasta' else 'txt'}"

    def codes(self, part: str) -> Codes:
        """(N,) class of each character of a part."""
        found: Codes = np.load(self.folder / f"{part}.npy")
        return found


def make_corpus(name: str, seed: int, size: Size, folder: Path) -> Corpus:
    """The corpus in a folder of its own, made once; another seed gives other data, or another part held out."""
    makers: dict[str, Callable[[np.random.Generator, Size, Path], None]] = {
        "synthetic": _synthetic,
        "yeast": _yeast,
        "text": _text,
    }
    kinds = {"synthetic": ("fasta", SYNTHETIC_CLASSES), "yeast": ("fasta", YEAST_CLASSES)}
    kind, classes = kinds.get(name, ("text", tuple(f"decile {n + 1}" for n in range(DECILES))))
    done = folder / "done.json"
    wanted = {"name": name, "seed": seed, **vars(size)}
    if not done.is_file() or json.loads(done.read_text()) != wanted:
        folder.mkdir(parents=True, exist_ok=True)
        makers[name](np.random.default_rng([seed, len(name)]), size, folder)
        done.write_text(json.dumps(wanted))
    return Corpus(folder=folder, kind=kind, classes=classes, shifted=name == "synthetic")


# ---- a genome of which the truth is known ----


def words(random: np.random.Generator) -> tuple[Codes, Codes]:
    """(words of the grammar, places with two bases): (NUM_WORDS, WORD_LENGTH) bases 0..3, and (NUM_WORDS,) places.

    At the place of each word one of two bases stands, each as often: the word's own, and that plus 1.
    """
    found: list[Codes] = []
    while len(found) < NUM_WORDS:
        word = random.integers(0, 4, WORD_LENGTH).astype(np.uint8)
        # In every phase: a word must not look like another one that is shifted.
        if all((np.roll(word, by) != other).sum() >= LEAST_DISTANCE for other in found for by in range(WORD_LENGTH)):
            found.append(word)
    return np.stack(found), random.integers(0, WORD_LENGTH, NUM_WORDS).astype(np.uint8)


def _synthetic(random: np.random.Generator, size: Size, folder: Path) -> None:
    """Two genomes with equal stretches, which differ in the words of the motifs only."""
    grammars = words(random), words(random)
    for part, length in (("train", size.train), ("held", size.held)):
        bases, codes = (np.concatenate(pieces) for pieces in zip(*_stretches(random, length), strict=True))
        for name, grammar in zip((part, f"shifted_{part}"), grammars, strict=True):
            spelt_N, classes_N = _spelt(random, bases, codes, grammar)
            _write_fasta(folder / f"{name}.fa", [spelt_N])
            np.save(folder / f"{name}.npy", classes_N)


def _stretches(random: np.random.Generator, length: int) -> list[tuple[Codes, Codes]]:
    """(bases, classes) of stretches; those of motifs are spelt later."""
    found: list[tuple[Codes, Codes]] = []
    done = 0
    while done < length:
        kind = str(random.choice(list(SHARES), p=list(SHARES.values())))
        count = min(int(random.integers(*SEGMENT)), length - done)
        bases_N = random.integers(0, 4, count).astype(np.uint8)
        if kind == "repeat":
            unit = REPEATS[random.integers(len(REPEATS))]
            bases_N = np.resize(np.searchsorted(BASES, np.frombuffer(unit.encode(), np.uint8)), count).astype(np.uint8)
        found.append((bases_N, np.full(count, SYNTHETIC_CLASSES.index(kind), dtype=np.uint8)))
        done += count
    return found


def _spelt(
    random: np.random.Generator, bases_N: Codes, codes_N: Codes, grammar: tuple[Codes, Codes]
) -> tuple[Codes, Codes]:
    """The genome with words of the grammar, end to end, in its motif stretches, and its classes."""
    table, halves = grammar
    bases_N, codes_N = bases_N.copy(), codes_N.copy()
    is_motif_N = codes_N == SYNTHETIC_CLASSES.index("motif")
    begins = np.flatnonzero(np.diff(is_motif_N.astype(np.int8), prepend=0) == 1)
    ends = np.flatnonzero(np.diff(is_motif_N.astype(np.int8), append=0) == -1) + 1
    for begin, end in zip(begins.tolist(), ends.tolist(), strict=True):
        drawn = random.integers(0, NUM_WORDS, (end - begin) // WORD_LENGTH + 2)
        spelt = table[drawn].copy()
        rows = np.arange(len(drawn))
        spelt[rows, halves[drawn]] = (spelt[rows, halves[drawn]] + random.integers(0, 2, len(drawn))) % 4
        classes = np.full(spelt.shape, SYNTHETIC_CLASSES.index("motif"), dtype=np.uint8)
        classes[rows, halves[drawn]] = SYNTHETIC_CLASSES.index("motif_half")
        phase = int(random.integers(WORD_LENGTH))
        bases_N[begin:end] = spelt.reshape(-1)[phase : phase + end - begin]
        codes_N[begin:end] = classes.reshape(-1)[phase : phase + end - begin]
    return bases_N, codes_N


def _write_fasta(path: Path, pieces: Sequence[Codes]) -> None:
    letters = (BASES[piece].tobytes().decode() for piece in pieces)
    path.write_text("".join(f">part{number}\n{piece}\n" for number, piece in enumerate(letters)))


# ---- yeast, and text ----


def _yeast(random: np.random.Generator, size: Size, folder: Path) -> None:
    """Chromosome I, of which eight blocks are held out; classes from its annotation, coding before repeat."""
    with gzip.open(str(EMBEDDED / "yeast_chrI.fa.gz"), "rt") as file:
        sequence = "".join(line.strip() for line in file if not line.startswith(">")).upper()
    bases_N = np.searchsorted(BASES, np.frombuffer(sequence.encode(), np.uint8)).astype(np.uint8)
    codes_N = np.full(len(bases_N), YEAST_CLASSES.index("other"), dtype=np.uint8)
    with gzip.open(str(EMBEDDED / "yeast_chrI.gff3.gz"), "rt") as file:
        features = [line.split("\t") for line in file if line.count("\t") >= 7]
    for code, kinds in (("repeat", YEAST_REPEATS), ("coding", ("CDS",))):
        for words_of in features:
            if words_of[2] in kinds:
                codes_N[int(words_of[3]) - 1 : int(words_of[4])] = YEAST_CLASSES.index(code)
    block = size.held // HELD_BLOCKS
    room = len(bases_N) // HELD_BLOCKS
    is_held_N = np.zeros(len(bases_N), dtype=np.bool_)
    for number in range(HELD_BLOCKS):
        first = number * room + int(random.integers(0, room - block))
        is_held_N[first : first + block] = True
    edges = np.flatnonzero(np.diff(is_held_N.astype(np.int8), prepend=is_held_N[0])).tolist()
    pieces = [slice(first, last) for first, last in zip([0, *edges], [*edges, len(bases_N)], strict=True)]
    for part, held in (("train", False), ("held", True)):
        mine = [piece for piece in pieces if piece.stop > piece.start and is_held_N[piece.start] == held]
        kept = _upto(mine, size.train if part == "train" else size.held)
        _write_fasta(folder / f"{part}.fa", [bases_N[piece] for piece in kept])
        np.save(folder / f"{part}.npy", np.concatenate([codes_N[piece] for piece in kept]))


def _upto(pieces: Sequence[slice], most: int) -> list[slice]:
    """As much of the beginning of each piece as makes `most` of all, or all."""
    share = min(1.0, most / sum(piece.stop - piece.start for piece in pieces))
    return [slice(piece.start, piece.start + max(1, int(share * (piece.stop - piece.start)))) for piece in pieces]


def _text(random: np.random.Generator, size: Size, folder: Path) -> None:
    """State of the Union addresses, a line each; some are held out whole."""
    with gzip.open(str(EMBEDDED / "speeches.txt.gz"), "rt", encoding="utf-8") as file:
        speeches = [line.strip() for line in file if line.strip()]
    order = random.permutation(len(speeches)).tolist()
    held: list[str] = []
    while sum(map(len, held)) < size.held:
        held.append(speeches[order.pop()])
    train: list[str] = []
    while order and sum(map(len, train)) < size.train:
        train.append(speeches[order.pop()])
    held = [" ".join(held)[: size.held]]
    (folder / "train.txt").write_text("\n".join(train) + "\n", encoding="utf-8")
    (folder / "held.txt").write_text("\n".join(held) + "\n", encoding="utf-8")


def token_deciles(counts_V: NDArray[np.int64]) -> Codes:
    """(V,) tenth of all tokens that a vocabulary entry belongs to, the commonest first."""
    order = np.argsort(-counts_V, kind="stable")
    reached = np.cumsum(counts_V[order]) - counts_V[order] / 2
    tenth = np.minimum(reached * DECILES // max(1, counts_V.sum()), DECILES - 1)
    deciles_V = np.zeros(len(counts_V), dtype=np.uint8)
    deciles_V[order] = tenth
    return deciles_V
