"""Promise 7: every code block of README.md and docs/ runs.

YAML: a whole run file, or a fragment of one (`yaml train.optimizer` after the fence says where it belongs); it is
validated. Shell: lines that call `instar` run in an empty folder, one folder a document, with small sizes; `make
TARGET` must be a target; other commands are left alone. Python: executed. Files that are named and not there are made.
"""

import json
import re
import shlex
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests" / "promises"))

DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
_FENCE = re.compile(r"^```(\w+)[ ]*([^\n]*)\n(.*?)^```", re.M | re.S)
_CHECKPOINT = re.compile(r"(?:^|/)checkpoint-(?:[0-9]+|N)$")
TEXT = "It was the best of times, it was the worst of times.\n\nIt was the age of wisdom.\n\n" * 30
CONTENT = MappingProxyType(
    {
        ".txt": TEXT,
        ".tsv": "text\tsentence\tsequence\tlabel\n"
        + "good one\tgood one\tACGTACGT\ta\nbad one\tbad one\tTTGGACCA\tb\n" * 20,
        ".fa": ">one\n" + "ACGTTGCAACGGTACCATTGA" * 60 + "\n",
        ".jsonl": '{"text": "good one", "label": "a"}\n{"text": "bad one", "label": "b"}\n' * 20,
    }
)
ELSEWHERE = ("demo",)
"""Verbs that have a test of their own, at a reduced size."""


@dataclass(frozen=True)
class Block:
    place: str
    language: str
    about: str
    text: str


def blocks(document: Path) -> Iterator[Block]:
    text = document.read_text(encoding="utf-8")
    for match in _FENCE.finditer(text):
        line = text.count("\n", 0, match.start()) + 1
        yield Block(f"{document.relative_to(ROOT)}:{line}", match[1], match[2].strip(), match[3])


ALL = [(document, block) for document in DOCUMENTS if document.is_file() for block in blocks(document)]
YAML = [block for _, block in ALL if block.language in ("yaml", "yml")]
SHELL = [document for document in DOCUMENTS if any(d == document and b.language in ("sh", "bash") for d, b in ALL)]
PYTHON = [block for _, block in ALL if block.language in ("python", "py")]


def validate(block: Block) -> None:
    """A run file, a section of one, or what belongs below a key of one; ConfigError where it does not."""
    from recipes import RECIPES, recipe_file
    from ruamel.yaml import YAML as yaml  # noqa: N811

    from instar.config.load import load
    from instar.core.errors import ConfigError
    from instar.run.config import RunConfig

    given = yaml(typ="safe").load(block.text)
    if block.about:
        load(recipe_file(RECIPES[0]), RunConfig, [f"{block.about}={json.dumps(given)}"])
    elif {"model", "task", "data", "train"} <= set(given):
        load(block.text, RunConfig)
    else:
        faults = []
        for section in ("", "data.", "train."):
            overrides = [f"{section}{key}={json.dumps(value)}" for key, value in given.items()]
            try:
                load(recipe_file(RECIPES[0]), RunConfig, overrides)
            except ConfigError as error:
                faults.append(error)
            else:
                return
        raise min(faults, key=lambda error: len(error.problems))


def lines(text: str) -> Iterator[list[str]]:
    """Command lines, continued lines joined, comments and prompts gone."""
    for line in text.replace("\\\n", " ").splitlines():
        words = shlex.split(line.removeprefix("$ "), comments=True)
        if words:
            yield words


def prepared(words: list[str], folder: Path) -> list[str]:
    """The arguments, small and of files that are there."""
    from recipes import recipe, small

    found: list[str] = []
    for word in words[1:]:
        name = word.rpartition("=")[2]
        content = CONTENT.get(Path(name).suffix)
        if _CHECKPOINT.search(word):
            there = sorted((folder / word).parent.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
            found.append(str(there[-1].relative_to(folder)) if there else word)
            continue
        if content is not None and found[-1:] != ["--output"] and not (folder / name).exists():
            (folder / name).write_text(content)
        found.append(word)
    if words[0] in ("train", "check"):
        stem = Path(words[1]).stem
        try:
            recipe(stem)
        except Exception:  # noqa: BLE001 (the user's own file: nothing is known of it)
            return [*found, "train.budget=2 steps", "train.threads=1"]
        mine = {word.partition("=")[0] for word in found}
        shrunk = [one for one in small(stem, folder).overrides if one.partition("=")[0] not in mine]
        return [*found, *shrunk, *(() if "train.budget" in mine else ("train.budget=2 steps",))]
    return found


def run_shell(text: str, folder: Path, place: str) -> None:
    from instar.cli import main

    for words in lines(text):
        if words[0] == "make":
            targets = (ROOT / "Makefile").read_text()
            assert all(re.search(rf"^{word}:", targets, re.M) for word in words[1:] if "=" not in word), (
                f"{place}: {words}"
            )
        if (
            Path(words[0]).name != "instar"
            or len(words) < 2
            or words[1] in ELSEWHERE
            or "--install-completion" in words
        ):
            continue
        with pytest.raises(SystemExit) as leaving:
            main([words[1], *prepared(words[1:], folder)])
        assert leaving.value.code == 0, f"{place}: {shlex.join(words)}"


@pytest.mark.parametrize("block", YAML, ids=lambda block: block.place)
def test_yaml(block: Block) -> None:
    validate(block)


@pytest.mark.parametrize("document", SHELL, ids=lambda document: document.name)
def test_shell(document: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    (tmp_path / "cache").mkdir()
    for block in blocks(document):
        if block.language in ("sh", "bash"):
            run_shell(block.text, tmp_path, block.place)


@pytest.mark.parametrize("block", PYTHON, ids=lambda block: block.place)
def test_python(block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    exec(compile(block.text, block.place, "exec"), {"__name__": "__main__"})


def test_the_harness_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a document could say runs; what is wrong in one is found."""
    from instar.core.errors import ConfigError

    monkeypatch.chdir(tmp_path)
    (tmp_path / "cache").mkdir()
    run_shell(
        "# a comment\n$ instar init text-characters\ninstar train text-characters.yaml data.train.path=mine.txt\n"
        "instar evaluate runs/text-characters/checkpoint-500\nmake demo\n",
        tmp_path,
        "here",
    )
    assert (tmp_path / "runs" / "text-characters" / "checkpoint-2").is_dir()
    with pytest.raises(AssertionError):
        run_shell("instar train nothing.yaml", tmp_path, "here")
    with pytest.raises(AssertionError):
        run_shell("make nonsense", tmp_path, "here")
    validate(Block("", "yaml", "", "train: {budget: 2 steps, batch_samples: 4}"))
    validate(Block("", "yaml", "train.optimizer", "{kind: adamw, lr: 1e-3}"))
    for about, text in (
        ("", "train: {budget: 2 stepps, batch_samples: 4}"),
        ("train.optimizer", "{kind: adamw, rl: 1}"),
    ):
        with pytest.raises(ConfigError):
            validate(Block("", "yaml", about, text))
