"""The texts of `life.py`, split for good, and what counting their characters gives.

Shape letters: N characters, G different runs of them.
"""

import gzip
import json
import re
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from instar.core.files.reading import embedded_folder

Ints = NDArray[np.int64]
Row = tuple[str, str]
"""A sentence and its label."""


def draw(name: str) -> int:
    """0 to 99, always the same for a name."""
    return zlib.crc32(name.encode()) % 100


def lines_of(path: Path) -> Iterator[str]:
    """Lines without their ends, of a plain or packed file."""
    with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as file:
        for line in file:
            yield line.rstrip("\n")


def titled(path: Path) -> dict[str, list[str]]:
    """Title -> lines that are not empty, of a file whose texts begin with `= TITLE =`."""
    found: dict[str, list[str]] = {}
    for line in lines_of(path):
        if match := re.fullmatch(r"= (.*) =", line.strip()):
            found[match[1]] = []
        elif line.strip():
            found[list(found)[-1]].append(line.strip())
    return found


def make_texts(data: Path | None, tasks: Sequence[str], rows: int | None) -> None:
    """Write what is learnt from into data/: lower case, one text a line, a blank before it."""
    place = Path("data")
    place.mkdir(exist_ok=True)
    if data is None:
        speeches = [text for text in "\n".join(lines_of(embedded_folder() / "speeches.txt.gz")).split("\n\n") if text]
        spoken = {str(number): [text[:4000]] for number, text in enumerate(speeches[:rows])}
        texts = [" ".join(lines) for lines in spoken.values()]
    else:
        spoken = titled(data / "text/state_of_the_union.txt.gz")
        texts = [" ".join(lines) for lines in titled(data / "text/brown_plain.txt.gz").values()]
        wikipedia = lines_of(data / "text/wikipedia_vital4_en.jsonl.gz")
        texts += [" ".join(json.loads(line)["extract"].split()) for line in wikipedia]
    (place / "pretrain.txt").write_text("".join(f" {text.lower()}\n" for text in texts), encoding="utf-8")
    held_out = sorted(spoken, key=lambda name: (draw(name), name))[: max(1, len(spoken) // 50)]
    for part, is_held_out in (("train", False), ("held_out", True)):
        chosen = ["\n".join(lines) for name, lines in spoken.items() if (name in held_out) == is_held_out]
        (place / f"speeches_{part}.txt").write_text("\n\n".join(chosen) + "\n", encoding="utf-8")
    for task in tasks:
        for part, chosen in sentences(data, task).items():
            lines = [f" {sentence.lower()}\t{label}\n" for sentence, label in chosen[:rows]]
            (place / f"{task}_{part}.tsv").write_text("sentence\tlabel\n" + "".join(lines), encoding="utf-8")


def sentences(data: Path | None, task: str) -> dict[str, list[Row]]:
    """Training, validation and test part of a task.

    movies: rated 0.5 or more from neutral; parts drawn by the CRC-32 of the id, 80 / 10 / 10 of 100. Sentences that
        SST-2 validates with do not choose anything: they are left out of the validation part.
    sst2: an eighth of its training part, drawn by the sentence's CRC-32; of that a tenth validates; its own 872.
    cola: a tenth of its training part, drawn in the same way, validates; its own development part (in domain).
    """
    if task == "movies":
        return _movies(data)
    if data is None:
        raise SystemExit(f"{task}: is not part of the package; name the folder of data with --data or INSTAR_DATA")
    names = {"sst2": ("sst2_train_a.tsv.gz", "sst2_train_b.tsv"), "cola": ("cola_train.tsv",)}[task]
    own = {"sst2": "sst2_validation.tsv", "cola": "cola_dev_in_domain.tsv"}[task]
    known = [row for name in names for row in pairs(data / "glue" / name)]
    if task == "sst2":
        known = [row for row in known if zlib.crc32(row[0].encode()) // 100 % 8 == 0]
    train = [row for row in known if draw(row[0]) >= 10]
    return {
        "train": train,
        "validation": [row for row in known if draw(row[0]) < 10],
        "test": pairs(data / "glue" / own),
    }


def _movies(data: Path | None) -> dict[str, list[Row]]:
    path = embedded_folder() / "movies.tsv.gz" if data is None else data / "labelled/vader_movie.tsv"
    judged = set() if data is None else {_letters(text) for text, _ in pairs(data / "glue/sst2_validation.tsv")}
    parts: dict[str, list[Row]] = {"train": [], "validation": [], "test": []}
    for number, rating, sentence in [line.split("\t") for line in lines_of(path)][1:]:
        part = {0: "test", 1: "validation"}.get(draw(number) // 10, "train")
        if abs(float(rating)) >= 0.5 and not (part == "validation" and _letters(sentence) in judged):
            parts[part].append((sentence, "positive" if float(rating) > 0 else "negative"))
    return parts


def _letters(sentence: str) -> str:
    """What is left of a sentence however it was cut into tokens."""
    return re.sub("[^a-z0-9]", "", sentence.lower())


def pairs(path: Path) -> list[Row]:
    """Sentences and labels of a table, its header left out."""
    rows = [line.rpartition("\t") for line in lines_of(path)][1:]
    return [(sentence, label) for sentence, _, label in rows]


def by_counting(train: str, held_out: str, order: int) -> float:
    """Nats a character of held-out text, by n-grams interpolated as Witten and Bell (1991) do."""
    names = {letter: number for number, letter in enumerate(sorted(set(train)), start=1)}
    base = len(names) + 1  # 0: never seen
    ids, held = (np.asarray([names.get(letter, 0) for letter in text], dtype=np.int64) for text in (train, held_out))
    chance = np.full(len(held), 1 / base)
    for length in range(1, order + 1):
        grams, counts = np.unique(codes(ids, length, base), return_counts=True)
        contexts, first = np.unique(grams // base, return_index=True)
        followers = np.diff(np.append(first, len(grams)))
        totals = np.add.reduceat(counts, first)
        asked = codes(held, length, base)
        seen = found(grams, counts, asked)
        following, total = (found(contexts, values, asked // base) for values in (followers, totals))
        lower = chance[length - 1 :]
        chance[length - 1 :] = np.where(total > 0, (seen + following * lower) / np.maximum(total + following, 1), lower)
    return float(-np.log(chance).mean())


def codes(ids: Ints, length: int, base: int) -> NDArray[np.int64]:
    """A number for each run of `length` characters; its context is the number divided by `base`."""
    places = len(ids) - length + 1
    return sum(ids[at : at + places] * base ** (length - 1 - at) for at in range(length))  # type: ignore[return-value]


def found(keys: NDArray[np.int64], values: NDArray[np.int64], wanted: Ints) -> NDArray[np.int64]:
    """The value of each wanted key, 0 where there is none."""
    at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[at] == wanted, values[at], 0)
