"""Something else in the place of a file of a run: named, and not waited for."""

import os
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from instar.cli import main
from instar.core.files.plain import NotPlainError, must_be_plain, open_plain, read_plain

RUN = """
model: {config: bert, num_layers: 1, hidden_size: 32, num_heads: 2}
tokenizer: {kind: character}
task: {kind: mlm, rate: 0.3, masking: {kind: adaptive}}
data: {train: {kind: text, path: "embedded:speeches.txt.gz"}, eval: {split: 0.02}, max_length: 32, too_long: truncate}
train: {budget: 2 steps, batch_tokens: 256, save_every: 2 steps, eval_every: 2 steps}
"""


def a_folder(path: Path) -> None:
    path.mkdir()


def a_dangling_link(path: Path) -> None:
    path.symlink_to("nowhere")


def a_named_pipe(path: Path) -> None:
    os.mkfifo(path)


OTHERS = (a_folder, a_dangling_link, a_named_pipe)


@contextmanager
def alarm(seconds: int) -> Iterator[None]:
    """TimeoutError for what waits longer; a limit against hanging, far above what a busy machine needs."""

    def ring(*_: object) -> None:
        raise TimeoutError("it waits")

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("other", OTHERS)
def test_a_plain_file_is_opened_and_nothing_else(other: Callable[[Path], None], tmp_path: Path) -> None:
    path = tmp_path / "file"
    must_be_plain(path)  # what is not there is no trouble of this kind
    path.write_bytes(b"content")
    (tmp_path / "link").symlink_to(path)
    assert read_plain(path) == read_plain(tmp_path / "link") == b"content"
    path.unlink()
    other(path)
    for mode in ("rb", "ab", "wb"):
        with (
            alarm(60),
            pytest.raises(NotPlainError, match=other.__name__.replace("a_dangling_", "a ").replace("_", " ")),
        ):
            open_plain(path, mode)
    assert not (tmp_path / "nowhere").exists()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("plain")
    (folder / "run.yaml").write_text(RUN)
    with pytest.raises(SystemExit) as left:
        main(["train", str(folder / "run.yaml"), "--output", str(folder / "run")])
    assert left.value.code == 0
    return folder / "run"


FILES = (
    "metrics.jsonl", "samples.jsonl", "run.yaml", ".lock", "checkpoint-2/MANIFEST.json", "checkpoint-2/config.json",
    "checkpoint-2/model.safetensors", "checkpoint-2/state.json", "masking.jsonl",
)  # fmt: skip


@pytest.mark.parametrize("other", OTHERS)
@pytest.mark.parametrize("name", FILES)
def test_no_verb_waits_or_breaks(
    name: str, other: Callable[[Path], None], run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(run, folder)
    path = folder / name
    if path.exists():
        path.unlink()
    other(path)
    again = ["train", str(run.parent / "run.yaml"), "--output", str(folder)]
    looks = [[verb, str(folder)] for verb in ("status", "report", "lineage")]
    for arguments in [*looks, again] if other is a_named_pipe else looks:
        with alarm(300), pytest.raises(SystemExit) as left:
            main(arguments)
        told = capsys.readouterr().err
        assert left.value.code not in (1, 70), (arguments, told)
        assert "Traceback" not in told
