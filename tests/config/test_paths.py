"""`~` and `$NAME` mean the same in every path: of a run file, of an override, and of the command line."""

import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import pytest
from pydantic import BaseModel

from instar.cli import main
from instar.cli.app import app
from instar.cli.tracks import tracks
from instar.config.base import PathText
from instar.core.files.paths import expanded
from instar.run.config import RunConfig

NAMES = ("path", "cache", "reference", "store", "output", "folder", "file")


def test_what_stands_for_what(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setenv("DATA", "/data")
    monkeypatch.delenv("NOWHERE", raising=False)
    monkeypatch.chdir(tmp_path)
    plain = ("a/b", "/a", "./~x", "a~b", "embedded:movies.tsv.gz", "a/*.txt", "cost$")
    assert [expanded(text) for text in plain] == list(plain)
    assert expanded("~/x") == "/home/me/x"
    assert expanded("$DATA/x") == expanded("${DATA}/x") == "/data/x"
    for text, said in (
        ("~nobody-of-this-name/x", "no user"),
        ("$NOWHERE/x", "'NOWHERE' is not set"),
        ("${}", "not set"),
    ):
        with pytest.raises(ValueError, match=said):
            expanded(text)
    (tmp_path / "cost$DATA").touch()
    assert expanded("cost$DATA") == "cost$DATA"  # it is there, as it is written


def fields(kind: Any, seen: set[Any]) -> Iterator[tuple[str, str, Any]]:
    """Every field of a config and of what it may hold: class, name, type."""
    if get_origin(kind) is not None:
        for part in get_args(kind):
            yield from fields(part, seen)
    elif inspect.isclass(kind) and issubclass(kind, BaseModel) and kind not in seen:
        seen.add(kind)
        for name, hint in get_type_hints(kind, include_extras=True).items():
            if name in kind.model_fields:
                yield kind.__name__, name, hint
                yield from fields(hint, seen)


def test_every_path_of_a_run_file_is_one_by_its_type() -> None:
    found = {(kind, name): hint for kind, name, hint in fields(RunConfig, set()) if name in NAMES}
    assert len(found) > 8
    plain = [key for key, hint in found.items() if str in _leaves(hint) and PathText not in _leaves(hint)]
    assert not plain, "a path is a PathText, so that ~ is expanded in it"


def _leaves(hint: Any) -> list[Any]:
    if hint is PathText or get_origin(hint) is None:
        return [hint]
    if get_origin(hint) is Annotated:
        return [hint, *_leaves(get_args(hint)[0])] if hint == PathText else _leaves(get_args(hint)[0])
    return [leaf for part in get_args(hint) for leaf in _leaves(part)]


def test_every_verb_expands_the_paths_it_is_given(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    commands = [*app.registered_commands, *tracks.registered_commands]
    assert len(commands) > 15
    for command in commands:
        for name, hint in get_type_hints(command.callback, include_extras=True).items():
            if Path in (hint, *get_args(get_args(hint)[0]), get_args(hint)[0]) if get_args(hint) else hint is Path:
                assert any(getattr(part, "parser", None) for part in get_args(hint)), f"{command.callback}: {name}"
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as left:
        main(["init", "text-mlm-adaptive", "--output=~/made.yaml"])
    assert left.value.code == 0
    assert (home / "made.yaml").is_file()
    for arguments in (["train", "~/none.yaml", "--output=~/run"], ["report", "~/none"], ["evaluate", "~nobody-here/x"]):
        with pytest.raises(SystemExit) as left:
            main(arguments)
        assert left.value.code in (2, 66)
    assert not (tmp_path / "~").exists()
    with pytest.raises(SystemExit) as left:
        main(["init", "text-mlm-adaptive", "--output=./~x"])
    assert left.value.code == 0
    assert (tmp_path / "~x").is_file(), "the way out that the message names"


def test_an_override_may_name_the_home_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "text.txt").write_text("\n\n".join(f"a short text number {number}" for number in range(30)))
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(tmp_path)
    run = [
        "model: {config: bert, num_layers: 1, hidden_size: 32, num_heads: 2}",
        "task: {kind: mlm, rate: 0.15}",
        "tokenizer: {kind: wordpiece, vocab_size: 300}",
        "data: {train: {kind: text, path: ~/text.txt}, max_length: 64, too_long: truncate}",
        "train: {budget: 1 steps, batch_tokens: 256}",
    ]
    (tmp_path / "run.yaml").write_text("\n".join(run))
    with pytest.raises(SystemExit) as left:
        main(["train", "run.yaml", "output=~/x"])
    assert left.value.code == 0
    assert (home / "x" / "run.yaml").is_file()
    assert not (tmp_path / "~").exists()
    with pytest.raises(SystemExit) as left:
        main(["train", "run.yaml", "output=~no-such-user/x", "data.train.path=$NO_SUCH_NAME/x"])
    assert left.value.code == 2
    told = capsys.readouterr().err
    assert "no user 'no-such-user'" in told
    assert "'NO_SUCH_NAME' is not set" in told
