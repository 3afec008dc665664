"""Commands on several processes under `torchrun`: files, figures and messages are those of one process."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from instar.run.train import train
from tests.run.conftest import Workshop

PROGRAM = Path(__file__).with_name("divided.py")
WORDS = ("the", "small", "river", "[MASK]", "runs", "under", "bright", "stone", "bird", "sings")
DNA = """
model: {{config: bert, num_layers: 1, hidden_size: 32, num_heads: 2, intermediate_size: 48, max_length: 34}}
tokenizer: {{kind: kmer, k: 1}}
task: {{kind: mlm}}
data: {{train: {{kind: fasta, path: {genome}}}, max_length: 34, too_long: window, cache: {cache}}}
train: {{budget: "4 steps", batch_samples: 8, optimizer: {{kind: adamw, lr: 5e-3}}, threads: 1}}
"""
FILES = ("predict-mlm", "predict-causal", "predict-split", "generate", "few-predict")
FIGURES = ("evaluate-mlm", "evaluate-causal", "evaluate-classify", "evaluate-regress", "few-evaluate")
FOLDERS = ("probe", "few-probe")


class Place:
    """Trained runs and input files, and the commands that are carried out with them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        workshop = Workshop(folder)
        for task in ("mlm", "causal_lm", "classify", "regress"):
            workshop.train(task, ["train.budget=4 steps", "train.micro_tokens=64", "train.eval_every=9 steps"])
        rng = np.random.default_rng(0)
        genome = folder / "genome.fa"
        genome.write_text("".join(f">r{n}\n{''.join(rng.choice(list('ACGT'), 300))}\n" for n in range(3)))
        (folder / "few.fa").write_text(">one\nACGTNACGT\n>two\nACGT\n")
        (folder / "few.csv").write_text("text,kind\nthe bird sings,bird\nstone,other\n")
        lines = [" ".join(rng.choice(WORDS, 1 + n % 5)) for n in range(700)]
        (folder / "lines.jsonl").write_text("".join(json.dumps({"text": line}) + "\n" for line in lines))
        (folder / "prompts.jsonl").write_text("".join(json.dumps({"text": line}) + "\n" for line in lines[:40]))
        (folder / "dna.yaml").write_text(DNA.format(genome=genome, cache=folder / "cache"))
        train(folder / "dna.yaml", output=folder / "dna")

    def arguments(self, name: str, output: Path) -> list[str]:
        """The command line of each command."""
        mlm, causal, classify, regress, dna = (
            str(self.folder / task / "checkpoint-4") for task in ("mlm", "causal_lm", "classify", "regress", "dna")
        )
        few, lines, prompts = (str(self.folder / file) for file in ("few.fa", "lines.jsonl", "prompts.jsonl"))
        to = ("--output", str(output))
        decoding = ("temperature=0.9", "seed=3", "max_new_tokens=6", "batch_tokens=300", "log_probabilities=true")
        return {
            "evaluate-mlm": ["evaluate", mlm, "--json"],
            "evaluate-causal": ["evaluate", causal, "--json"],
            "evaluate-classify": ["evaluate", classify, "--split", "test", "--json"],
            "evaluate-regress": ["evaluate", regress, "--json"],
            "few-evaluate": ["evaluate", classify, "--input", str(self.folder / "few.csv"), "--json"],
            "predict-mlm": ["predict", mlm, "--input", lines, *to, "--json"],
            "predict-causal": ["predict", causal, "--input", lines, *to, "--json"],
            "predict-split": ["predict", classify, "--split", "test", *to, "--json"],
            "few-predict": ["predict", dna, "--input", few, *to, "--json"],
            "generate": ["generate", causal, *decoding, "--input", prompts, *to, "--json"],
            "probe": ["probe", dna, "--tracks", "bedgraph", *to, "--json"],
            "few-probe": ["probe", dna, "--data", few, "--tracks", "none", *to, "--json"],
            "fails": ["predict", causal, "--input", lines, *to],
            "killed": ["predict", causal, "--input", lines, *to],
            "missing": ["predict", causal, "--input", "/nowhere.txt", *to],
            "wrong": ["predict", causal, *to],
            "unknown-option": ["evaluate", mlm, "--nothing"],
            "status": ["status", str(self.folder / "mlm")],
            **{name: ["predict", causal, "--input", lines, *to] for name in ODD},
            "one-prompt": ["generate", causal, "the bird", "max_new_tokens=3"],
        }[name]

    def odd(self, name: str, output: Path) -> list[str] | None:
        """The command line of the last rank where it is another one."""
        common = self.arguments(name, output)
        given = {
            "other-texts": ("lines.jsonl", "prompts.jsonl"),
            "other-weights": ("causal_lm/checkpoint-4", "mlm/checkpoint-4"),
        }.get(name)
        return [word.replace(*given) for word in common] if given else None


ODD = ("other-texts", "other-weights")
"""One rank has something else."""
NOT_ALONE = (*ODD, "fails", "killed", "missing", "wrong", "unknown-option", "status", "one-prompt")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return Place(tmp_path_factory.mktemp("divided"))


@pytest.fixture(scope="module")
def launched(place: Place) -> Path:
    """The folder of what every process printed, and its exit codes; what is written is in `one` and `two`."""
    for name in ("said", "one", "two"):
        (place.folder / name).mkdir()
    commands: list[dict[str, Any]] = [
        {
            "name": name,
            "alone": None if name in NOT_ALONE else place.arguments(name, place.folder / "one" / name),
            "arguments": place.arguments(name, place.folder / "two" / name),
            "world": 3 if name.startswith("few") else 2,
            "fails_on": 1 if name == "fails" else None,
            "odd": place.odd(name, place.folder / "two" / name),
            "killed_on": 1 if name == "killed" else None,
        }
        for name in (*FIGURES, *FILES, *FOLDERS, *NOT_ALONE)
    ]
    file = place.folder / "said" / "commands.json"
    file.write_text(json.dumps(commands))
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "1"]
    done = subprocess.run(
        [*launcher, str(PROGRAM), str(file)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return file.parent


def _texts(folder: Path, name: str, ending: str) -> list[str]:
    return [path.read_text() for path in sorted(folder.glob(f"{name}-[0-9].{ending}"))]


@pytest.mark.parametrize("name", [*FIGURES, *FILES, *FOLDERS])
def test_what_is_printed_is_that_of_one_process_once(place: Place, launched: Path, name: str) -> None:
    printed, errors = _texts(launched, name, "out"), _texts(launched, name, "err")
    assert set(_texts(launched, name, "code")) == {"0"}, errors
    assert printed[1:] == [""] * (2 if name.startswith("few") else 1)
    assert printed[0] == (launched / f"{name}-alone.out").read_text().replace(
        str(place.folder / "one"), str(place.folder / "two")
    )
    assert errors == [""] * len(printed)


@pytest.mark.parametrize("name", FILES)
def test_files_are_those_of_one_process(place: Place, launched: Path, name: str) -> None:
    wanted = (place.folder / "one" / name).read_bytes()
    assert (place.folder / "two" / name).read_bytes() == wanted
    assert len(wanted.splitlines()) > 1


@pytest.mark.parametrize("name", FOLDERS)
def test_folders_of_a_probe_are_those_of_one_process(place: Place, launched: Path, name: str) -> None:
    files = [
        {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        for folder in (place.folder / "one" / name, place.folder / "two" / name)
    ]
    assert files[0] == files[1]
    assert any("probe" in str(path) for path in files[0])


@pytest.mark.parametrize(
    ("name", "code", "message"),
    [
        ("fails", 65, "this process cannot go on"),
        ("missing", 66, "/nowhere.txt"),
        ("wrong", 2, "wanted one of --input FILE and --split eval|test"),
        ("unknown-option", 2, "No such option: --nothing"),
    ],
)
def test_an_error_is_reported_once_and_ends_all(
    place: Place, launched: Path, name: str, code: int, message: str
) -> None:
    errors = _texts(launched, name, "err")
    assert _texts(launched, name, "code") == [str(code)] * 2, errors
    assert sorted(message in text for text in errors) == [False, True], errors
    assert "" in errors
    assert not [path for path in (place.folder / "two").iterdir() if name in path.name]


@pytest.mark.parametrize(
    ("name", "told"),
    [("other-texts", "read different texts: rank 0 others than rank 1"), ("other-weights", "weights: expected")],
)
def test_processes_that_are_not_alike_stop(place: Place, launched: Path, name: str, told: str) -> None:
    assert _texts(launched, name, "code") == ["65", "65"]
    said = "".join(_texts(launched, name, "err"))
    assert said.count(told) == 1, said
    assert not (place.folder / "two" / name).exists()


def test_a_killed_process_ends_the_others_with_a_message(place: Place, launched: Path) -> None:
    errors = _texts(launched, "killed", "err")
    assert _texts(launched, "killed", "code") == ["70", "-9"], errors
    assert "another process of this command ended without a message" in errors[0]
    assert not [path for path in (place.folder / "two").iterdir() if "killed" in path.name]


@pytest.mark.parametrize("name", ["status", "one-prompt"])
def test_other_commands_are_carried_out_by_the_main_process(launched: Path, name: str) -> None:
    assert _texts(launched, name, "code") == ["0", "0"], _texts(launched, name, "err")
    printed = _texts(launched, name, "out")
    assert printed[0]
    assert printed[1] == ""
