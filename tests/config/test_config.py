"""Run files: what is read, what is refused and in which words, and that a dump reads back equal.

`Run` is a run file in small, with every kind of value that the loader has to read.
"""

import time
from contextlib import suppress
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import Discriminator, Field, Tag, model_validator

from instar.config import Config, Interval, KeyFaults, RunBudget, dump, load, schema
from instar.core.errors import ConfigError, InputMissingError


class Speed(Enum):
    SLOW = "slow"
    FAST = "fast"


class Constant(Config):
    """Always the same rate."""

    kind: Literal["constant"] = "constant"


class Cosine(Config):
    """Falls like a cosine."""

    kind: Literal["cosine"] = "cosine"
    floor: float = Field(default=0.0, ge=0, lt=1)
    """Share of the rate that is left at the end."""


class AdamW(Config):
    kind: Literal["adamw"] = "adamw"
    lr: float = Field(default=1e-3, gt=0)
    """Peak learning rate."""
    betas: tuple[float, float] = (0.9, 0.999)
    schedule: Annotated[Constant | Cosine, Field(discriminator="kind")] = Constant()


class Momentum(Config):
    kind: Literal["momentum"] = "momentum"
    lr: float = 0.1


Optimizer = Annotated[AdamW | Momentum, Field(discriminator="kind")]


class FromFolder(Config):
    from_: Path = Field(alias="from")
    """A folder with a model."""


class FromConfig(Config):
    config: str
    num_layers: int = 2


class Kmer(Config):
    kind: Literal["kmer"] = "kmer"
    k: int = 6


def _way(value: Any) -> str | None:
    if not isinstance(value, dict):
        return {FromFolder: "folder", FromConfig: "config"}.get(type(value), getattr(value, "kind", None))
    return "folder" if {"from", "from_"} & set(value) else "config" if "config" in value else value.get("kind")


Model = Annotated[
    Annotated[FromFolder, Tag("folder")] | Annotated[FromConfig, Tag("config")] | Annotated[Kmer, Tag("kmer")],
    Discriminator(_way),
]


class Window(Config):
    length: int = 10
    overlap: int = 0

    @model_validator(mode="after")
    def _fits(self) -> "Window":
        if self.overlap >= self.length:
            raise KeyFaults([f"overlap: wanted less than {self.length}; got {self.overlap}", "length: wanted more"])
        return self


class Train(Config):
    budget: RunBudget
    """How long to train."""
    optimizer: Optimizer = AdamW()
    save_every: Interval | None = None
    compile: bool = False


class Run(Config):
    """One run."""

    name: str = "run"
    model: Model
    train: Train
    window: Window = Window()
    stages: tuple[Optimizer, ...] = ()
    labels: dict[str, int] = Field(default_factory=dict)
    words: tuple[str, ...] = ()
    rate: float | Literal["auto"] = "auto"
    speed: Speed = Speed.SLOW


SMALL = "model: {config: bert}\ntrain: {budget: 3 epochs}\n"


def problems(text: str | Path, *overrides: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(text, Run, overrides)
    return list(caught.value.problems)


def test_values_and_their_origins(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text(
        """\
model: {from: runs/a}
train:
  budget: 50_000 tokens
  optimizer:
    lr: 2e-4
    schedule: {kind: cosine, floor: 0.1}
stages:
  - kind: momentum
  - {kind: adamw, lr: 1}
words: [no, "5", on, ~x]
labels: {off: 0x10}
""",
        encoding="utf-8",
    )
    loaded = load(path, Run, ["train.optimizer.betas=[0.5, 0.6]", "stages.1.lr=3", "train.save_every=10 minutes"])
    run = loaded.value
    assert isinstance(run.model, FromFolder)
    assert run.model.from_ == Path("runs/a")
    assert run.train.optimizer == AdamW(lr=2e-4, betas=(0.5, 0.6), schedule=Cosine(floor=0.1))
    assert run.stages == (Momentum(), AdamW(lr=3))
    assert run.words == ("no", "5", "on", "~x")
    assert run.labels == {"off": 16}
    assert str(run.train.budget) == "50000 tokens"
    assert loaded.source == str(path)
    expected = {
        "name": "default",
        "model.from": f"{path}:1",
        "train.budget": f"{path}:3",
        "train.optimizer.kind": "default",
        "train.optimizer.lr": f"{path}:5",
        "train.optimizer.betas": "command line",
        "train.optimizer.schedule.floor": f"{path}:6",
        "train.save_every": "command line",
        "stages.0.kind": f"{path}:8",
        "stages.0.lr": "default",
        "stages.1.lr": "command line",
        "words": f"{path}:10",
    }
    assert {key: loaded.origins[key] for key in expected} == expected


def test_all_faults_come_at_once_in_the_order_of_the_file():
    text = """\
modle: {from: a}
train:
  budget: 10000
  optimizer: {kind: adamm}
  compile: no
  lr: 3
speed: fats
stages:
  - {kind: adamw, lr: high, betas: [1], lrr: 3}
  - {kind: adamw, schedule: {kind: cosin}}
  - 5
labels: {a: 1_000, b: 1e3}
words: [1]
rate: maybe
"""
    found = problems(text, "train.optimizer.kind=adamx", "foo", "train.budgt=3 epochs", "speed.x=1", "words=[1")
    wanted = [
        ("text:1", "model", "a mapping with kind: 'kmer' or the key 'from' or the key 'config'"),
        ("text:1", "modle", "did you mean 'model'?"),
        ("text:3", "train.budget", "like '500 steps'; got 10000"),
        ("text:5", "train.compile", "wanted true or false; got 'no'"),
        ("text:6", "train.lr", "did you mean 'optimizer.lr'?"),
        ("text:7", "speed", "wanted 'slow' or 'fast'; got 'fats'; did you mean 'fast'?"),
        ("text:9", "stages.0.lr", "wanted a number; got 'high'"),
        ("text:9", "stages.0.betas.1", "this key is needed"),
        ("text:9", "stages.0.lrr", "did you mean 'lr'?"),
        ("text:10", "stages.1.schedule.kind", "wanted 'constant' or 'cosine'; got 'cosin'; did you mean 'cosine'?"),
        ("text:11", "stages.2", "wanted a mapping with kind: 'adamw' or 'momentum'; got 5"),
        ("text:12", "labels.a", "got '1_000': write 1000"),
        ("text:12", "labels.b", "got 1000.0: write 1000"),
        ("text:13", "words.0", "wanted text; got 1: write '1' in quotes"),
        ("text:14", "rate", "wanted a number or 'auto'; got 'maybe'"),
        ("command line", "train.optimizer.kind", "got 'adamx'; did you mean 'adamw'?"),
        ("command line", "foo", "wanted KEY=VALUE"),
        ("command line", "train.budgt", "did you mean 'budget'?"),
        ("command line", "speed.x", "speed is set at text:7"),
        ("command line", "words", "wanted YAML"),
    ]
    for place, key, words in wanted:
        assert any(line.startswith(f"{place}: {key}: ") and words in line for line in found), (place, key, found)
    assert len(found) == len(wanted)
    lines = [int(line.split(":")[1]) for line in found if line.startswith("text:")]
    assert lines == sorted(lines)
    assert not any("pydantic" in line or "Input should" in line for line in found)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: &x 1", "anchor '&x'"),
        ("a: *x", "alias '*x'"),
        ("a: !!python/object:os.system x", "tag"),
        ("name: a\nname: b", "text:2: name: wanted each key once; it is already at text:1"),
        ("? [a]\n: b", "wanted a word as a key"),
        ("a: 1\n---\nb: 2", "text:2: wanted one document"),
        ("a: [1", "text:1: wanted YAML"),
        ("a: \x00", "text:1: wanted YAML"),
        ("[" * 1_000_000, "more than 32 levels"),
        ("a: " + "{b: " * 40 + "}" * 40, "more than 32 levels"),
        ("#" * ((1 << 20) + 1), "at most 1048576 bytes"),
        ("a: " + "9" * 5000, "digits"),
        ("a: .inf", "text:1: wanted a finite number"),
        ("a: [-.inf]", "text:1: wanted a finite number"),
        ("a: .nan", "text:1: wanted a finite number"),
        ("a: 1e400", "text:1: wanted a finite number"),
        ("a: 1e39", "text:1: wanted a finite number"),
        ("a: 9223372036854775808", "text:1: wanted a finite number"),
        ("train: {budget: 1e400 steps}", "wanted a number above 0 and a unit"),
        ('a: "\\ud800"', "surrogate"),
        ("- a", "wanted a mapping with the keys name"),
        ("5", "wanted a mapping with the keys name"),
        ("<<: {name: x}\n" + SMALL, "got '<<'"),
        ("model: {form: a}\n", "got the keys form; did you mean 'from'?"),
        ("", "text:1: train: wanted a mapping with the keys budget"),
        (SMALL + "stages: [{lr: 1}]", "wanted a mapping with kind: 'adamw' or 'momentum'; got the keys lr"),
        (SMALL + "stages: [{kind: adamw, lr: 0}]", "wanted a number above 0; got 0"),
        ("model: {kind: kmerr}", "text:1: model.kind: wanted 'kmer'; got 'kmerr'; did you mean 'kmer'?"),
        (SMALL + "name: 'a\n", "wanted YAML"),
    ],
)
def test_refused(text, words):
    start = time.process_time()
    assert any(words in line for line in problems(text)), problems(text)
    assert time.process_time() - start < 2


def test_a_fault_of_the_yaml_is_not_told_twice():
    assert problems(SMALL + "speed: &x fast\nname: *x\n") == [
        "text:3: wanted a plain value; got the anchor '&x': anchors are not read",
        "text:4: wanted a value; got the alias '*x': write the value out",
    ]


def test_an_alias_bomb_fails_fast():
    bomb = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 30))
    start = time.process_time()
    assert "anchor" in problems(bomb)[0]
    assert time.process_time() - start < 1


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(InputMissingError, match=r"none\.yaml"):
        load(tmp_path / "none.yaml", Run)
    with pytest.raises(InputMissingError):
        load(tmp_path, Run)
    binary = tmp_path / "binary.yaml"
    binary.write_bytes(b"a: 1\nb: \xff\xfe")
    assert problems(binary) == [f"{binary}:2: wanted UTF-8 text; got the byte 0xff"]


def test_a_field_goes_by_its_name_in_python_too():
    loaded = load(SMALL.replace("config: bert", "from_: a"), Run)
    assert loaded.value.model == FromFolder(**{"from": "a"})
    assert loaded.origins["model.from"] == "text:1"


def test_a_validator_of_a_mapping_names_its_keys():
    assert problems(SMALL + "window:\n  overlap: 12\n") == [
        "text:3: window.length: wanted more",
        "text:4: window.overlap: wanted less than 10; got 12",
    ]


def test_an_override_reaches_into_what_the_file_does_not_name():
    loaded = load(SMALL, Run, ["train.optimizer.schedule.kind=cosine", "train.optimizer.lr=1e-4"])
    assert loaded.value.train.optimizer == AdamW(lr=1e-4, schedule=Cosine())
    assert loaded.origins["train.optimizer.kind"] == "default"


@settings(deadline=None, max_examples=60)
@given(st.text(alphabet=st.sampled_from("a:-[]{}, \n\"'#&*!|>%@`?0~\\\t\x00é"), max_size=60))
def test_any_text_gives_a_value_or_a_config_error(text):
    with suppress(ConfigError):
        load(text, Run)


LETTERS = st.characters(exclude_categories=["Cs"])
WORDS = st.one_of(st.text(LETTERS, max_size=12), st.sampled_from(["no", "null", "1e3", "0x1", "- a", ": ", "#", ""]))
NUMBERS = st.floats(min_value=-3e38, max_value=3e38)
WHOLE = st.integers(-(2**63) + 1, 2**63 - 1)
OPTIMIZERS = st.one_of(
    st.builds(
        AdamW,
        lr=st.floats(min_value=1e-300, max_value=3e38),
        betas=st.tuples(NUMBERS, NUMBERS),
        schedule=st.one_of(st.just(Constant()), st.builds(Cosine, floor=st.floats(0, 0.99))),
    ),
    st.builds(Momentum, lr=NUMBERS),
)
BUDGETS = st.builds("{} {}".format, st.integers(1, 10**12), st.sampled_from(["steps", "epochs"]))
RUNS = st.builds(
    Run,
    name=WORDS,
    model=st.one_of(
        st.builds(lambda path: FromFolder(**{"from": path}), st.text(LETTERS, max_size=9).map(Path)),
        st.builds(FromConfig, config=WORDS, num_layers=WHOLE),
    ),
    train=st.builds(Train, budget=BUDGETS, optimizer=OPTIMIZERS, save_every=st.none() | BUDGETS, compile=st.booleans()),
    stages=st.lists(OPTIMIZERS, max_size=3).map(tuple),
    labels=st.dictionaries(WORDS, WHOLE, max_size=3),
    words=st.lists(WORDS, max_size=4).map(tuple),
    rate=NUMBERS | st.just("auto"),
    speed=st.sampled_from(Speed),
)


@settings(deadline=None, max_examples=150)
@given(RUNS)
def test_a_dump_reads_back_equal(run):
    first = load(dump_of(run), Run)
    assert first.value == run
    assert load(dump(first), Run).value == run


def dump_of(run: Any) -> str:
    from instar.config.load import Loaded

    return dump(Loaded(run, {"name": "a\nb: 5"}, "text"))


def test_a_dump_names_every_origin():
    text = dump(load(SMALL, Run, ["name=x"]))
    assert "name: x  # command line\n" in text
    assert '  budget: "3 epochs"  # text:2\n' in text
    assert "  compile: false  # default\n" in text


def test_the_schema_accepts_and_refuses_what_the_loader_does():
    described = schema(Run)
    jsonschema.Draft202012Validator.check_schema(described)
    validator = jsonschema.Draft202012Validator(described)
    good = {"model": {"from": "a"}, "train": {"budget": "3 epochs", "optimizer": {"kind": "adamw", "lr": 1e-3}}}
    assert validator.is_valid(good)
    assert not validator.is_valid(good | {"modle": 1})
    assert not validator.is_valid(good | {"train": {"budget": 3}})
    assert not validator.is_valid(good | {"stages": [{"kind": "adamm"}]})
    assert described["$defs"]["AdamW"]["properties"]["lr"]["description"] == "Peak learning rate."
    assert described["$schema"].endswith("2020-12/schema")


def test_a_file_below_the_current_folder_is_named_from_there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "runs" / "a.yaml"
    path.parent.mkdir()
    path.write_text("lr: fast\n")
    with pytest.raises(ConfigError) as refused:
        load(path, AdamW)
    assert refused.value.problems[0].startswith("runs/a.yaml:1: ")
