"""Every recipe of the package, made small enough to train in a blink, whatever it is made of.

A recipe is shrunk through overrides only, as a user would: a narrow network, few steps, a small piece of the data.
"""

import gzip
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from instar.config.load import load
from instar.data.tokenizer import Tokenizer
from instar.run.config import RunConfig

STEPS = 8
LENGTH = 32
"""Tokens of a sample at most."""
_TEXT_CHARACTERS, _TABLE_ROWS, _SEQUENCE_LINES = 12_000, 90, 150
_SIZES = {"num_layers": 2, "hidden_size": 32, "num_heads": 2, "intermediate_size": 48, "max_length": LENGTH}


def recipe_file(name: str) -> Path:
    """The recipe as it lies in the package."""
    return Path(str(files("instar") / "recipes" / f"{name}.yaml"))


RECIPES = tuple(sorted(path.stem for path in recipe_file("x").parent.glob("*.yaml")))


@cache
def recipe(name: str) -> RunConfig:
    """What a recipe says, unchanged."""
    return load(recipe_file(name), RunConfig).value


@dataclass(frozen=True)
class Small:
    """A shrunk recipe: `instar train FILE *overrides`."""

    name: str
    overrides: tuple[str, ...]

    @property
    def file(self) -> Path:
        return recipe_file(self.name)

    def but(self, *overrides: str) -> "Small":
        """The same with further overrides; later ones win."""
        return Small(self.name, (*self.overrides, *overrides))

    @property
    def config(self) -> RunConfig:
        """The resolved run."""
        return load(self.file, RunConfig, self.overrides).value


def small(name: str, shared: Path) -> Small:
    """The recipe with small sizes and dropout 0; pieces of its data and its token caches lie in `shared`."""
    return Small(name, tuple(_overrides(recipe(name), shared)))


def _overrides(config: RunConfig, shared: Path) -> Iterator[str]:
    if hasattr(config.model, "config"):
        yield from (f"model.{key}={value}" for key, value in _SIZES.items())
        if "layer_types" in config.model.fields:
            yield "model.layer_types=null"
    yield "model.dropout=0.0"
    if hasattr(config.tokenizer, "vocab_size"):
        yield "tokenizer.vocab_size=300"
    yield f"data.cache={shared / 'cache'}"
    for split in ("train", "eval", "test"):
        source = getattr(config.data, split)
        if getattr(source, "path", "").startswith("embedded:"):
            yield f"data.{split}.path={_piece(source.path.removeprefix('embedded:'), shared)}"
    yield f"data.max_length={LENGTH}"
    cuts = config.task.kind == "classify" or getattr(config.data.train, "completion", None) is not None
    yield f"data.too_long={'truncate' if cuts else 'window'}"
    if config.data.eval is not None and hasattr(config.data.eval, "fraction"):
        yield "data.eval={split: 0.2}"
    yield f"train.budget={STEPS} steps"
    yield "train.batch_tokens=null"
    yield "train.batch_samples=6"
    yield "train.log_every=1"
    yield "train.eval_every=4 steps"
    yield "train.save_every=3 steps"
    yield "train.threads=1"


def _piece(name: str, shared: Path) -> Path:
    """The beginning of an embedded file, as a plain file of the same format."""
    piece = shared / name.removesuffix(".gz")
    if piece.exists():
        return piece
    with gzip.open(str(files("instar") / "data" / "embedded" / name), "rt", encoding="utf-8") as file:
        lines = file.read().splitlines()
    if piece.suffix == ".txt":
        text = "\n".join(lines)[:_TEXT_CHARACTERS]
        kept = _paragraphs(text)
    elif piece.suffix in (".tsv", ".csv"):
        rows = lines[1:]
        kept = [lines[0], *rows[:: max(1, len(rows) // _TABLE_ROWS)][:_TABLE_ROWS]]
    else:
        kept = lines[:_SEQUENCE_LINES]
    temporary = piece.with_name(f".{piece.name}")
    temporary.write_text("\n".join(kept) + "\n", encoding="utf-8")
    temporary.rename(piece)
    return piece


def _paragraphs(text: str) -> list[str]:
    """Documents of uneven length, so that batches are ragged."""
    words = text.split()
    sizes, first, found = (3, 17, 40, 9, 25, 60, 5, 33), 0, []
    while first < len(words):
        size = sizes[len(found) // 2 % len(sizes)]
        found += [" ".join(words[first : first + size]), ""]
        first += size
    return found


# ---- what a run left ----

TIMED = ("seconds", "tokens_per_second")


def lines_of(path: Path, *splits: str) -> list[dict[str, Any]]:
    """The curve of a run: its lines without times; of some splits only, where they are named."""
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return [
        {key: value for key, value in row.items() if key not in TIMED}
        for row in rows
        if not splits or row["split"] in splits
    ]


def tokenizer_of(checkpoint: Path) -> Tokenizer:
    return Tokenizer.load(checkpoint)
