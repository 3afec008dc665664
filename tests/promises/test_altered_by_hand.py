"""Each field of each index, header and manifest, altered by hand, is found."""

import json
import shutil
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from instar.checkpoint.protocol import damage, publish, verify
from instar.core.errors import CheckpointError, DataError
from instar.core.files.json_files import to_json, write_json
from instar.core.rundir import RunFolder
from instar.data import fingerprint
from instar.data.cache import TokenCache, build_cache
from instar.data.fingerprint import source_fingerprint
from instar.data.source import Csv
from instar.data.texts import build_texts
from instar.data.tokenizer import Character, Tokenizer, build_tokenizer
from instar.masking.value_arrays import HEADER, read_header
from tests.masking.stores import opened

ROWS = "text,y\nabc,no\ndef,yes\nabd,no\n"


def altered(value: Any) -> Iterator[Any]:
    """The value with one of its fields altered or left out, or another one added, at every depth."""
    if isinstance(value, dict):
        yield {**value, "added": 1}
        for name, part in value.items():
            yield {other: value[other] for other in value if other != name}
            yield from ({**value, name: changed} for changed in altered(part))
    elif isinstance(value, list):
        yield [*value, 1]
        for place, part in enumerate(value):
            yield value[:place] + value[place + 1 :]
            yield from ([*value[:place], changed, *value[place + 1 :]] for changed in altered(part))
        yield from [value[::-1]] * (value[::-1] != value)
    else:
        yield _other(value)
        yield str(value) if not isinstance(value, str) else None


def _other(value: Any) -> Any:
    if isinstance(value, str):
        return value + "x"
    return 1 if value is None else not value if isinstance(value, bool) else value + 1


def all_are_found(path: Path, read: Callable[[], object], error: type[Exception]) -> None:
    written = path.read_bytes()
    read()
    count = 0
    for changed in altered(json.loads(written)):
        path.write_bytes(to_json(changed))
        with pytest.raises(error):
            read()
        count += 1
    assert count > 5
    path.write_bytes(written)
    read()


@pytest.fixture
def source(tmp_path: Path) -> Csv:
    (tmp_path / "a.csv").write_text(ROWS)
    return Csv(path=str(tmp_path / "a.csv"), label="y")


@pytest.fixture
def tokenizer() -> Tokenizer:
    return build_tokenizer(Character(), lambda: iter(["abcdef"]))


def test_the_index_of_a_token_cache(tmp_path: Path, source: Csv, tokenizer: Tokenizer) -> None:
    cache = build_cache(source, tokenizer, tmp_path / "cache")
    assert cache.label_names == ("no", "yes")
    all_are_found(cache.folder / "index.json", lambda: TokenCache(cache.folder), DataError)


def test_swapped_classes_are_not_believed(tmp_path: Path, source: Csv, tokenizer: Tokenizer) -> None:
    cache = build_cache(source, tokenizer, tmp_path / "cache")
    index = cache.folder / "index.json"
    index.write_text(json.dumps({**json.loads(index.read_text()), "label_names": ["yes", "no"]}))
    with pytest.warns(UserWarning, match="checksum"):
        again = build_cache(source, tokenizer, tmp_path / "cache")
    assert (again.label_names, again.labels.tolist()) == (("no", "yes"), cache.labels.tolist())


def test_the_index_and_the_characters_of_texts(tmp_path: Path, source: Csv) -> None:
    first = np.array([0, 3, 6, 9])

    def made() -> str:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            return build_texts(source, first, tmp_path, "t").part(1, 0, 3)

    assert made() == "def"
    all_are_found(tmp_path / "t.text" / "index.json", made, UserWarning)
    (tmp_path / "t.text" / "characters.bin").write_bytes(b"abcdeXabd")
    with pytest.warns(UserWarning, match="written again"):
        assert build_texts(source, first, tmp_path, "t").part(1, 0, 3) == "def"


def test_a_remembered_digest(tmp_path: Path, source: Csv, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fingerprint, "_REMEMBERED_BYTES", 0)
    monkeypatch.setattr(fingerprint, "is_stale", lambda *_: False)
    right = source_fingerprint(source, tmp_path)
    note = next((tmp_path / "digests").iterdir())
    hashed: list[Path] = []
    monkeypatch.setattr(fingerprint, "_hash", lambda path: hashed.append(path) or "0" * 64)
    assert source_fingerprint(source, tmp_path) == right, "remembered"
    written = json.loads(note.read_text())
    for changed in altered(written):
        note.write_text(json.dumps(changed))
        hashed.clear()
        assert source_fingerprint(source, tmp_path) != right
        assert hashed


def test_a_tokenizer(tmp_path: Path, tokenizer: Tokenizer) -> None:
    tokenizer.save(tmp_path, "encoder")
    all_are_found(tmp_path / "instar_tokenizer.json", lambda: Tokenizer.load(tmp_path), DataError)


def test_the_header_of_a_store(tmp_path: Path) -> None:
    opened(tmp_path, tick=2)
    all_are_found(tmp_path / HEADER, lambda: read_header(tmp_path), CheckpointError)


def test_a_header_from_before_there_was_a_checksum_is_read(tmp_path: Path) -> None:
    schema = opened(tmp_path, tick=2).schema
    header = json.loads((tmp_path / HEADER).read_text())
    (tmp_path / HEADER).write_text(
        json.dumps({name: header[name] for name in header if name != "sha256"} | {"version": 1})
    )
    assert read_header(tmp_path) == schema


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    def write(folder: Path) -> None:
        write_json(folder / "state.json", {"step": 2})
        (folder / "model.safetensors").write_bytes(b"0" * 100)

    final = RunFolder(tmp_path / "run").checkpoint(2)
    publish(final, write)
    return final


def test_the_manifest_of_a_checkpoint(checkpoint: Path) -> None:
    all_are_found(checkpoint / "MANIFEST.json", lambda: verify(checkpoint), CheckpointError)


def test_damage_is_told_without_reading_what_is_large(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("instar.checkpoint.protocol._SMALL", 50)
    assert damage(checkpoint) is None
    (checkpoint / "model.safetensors").write_bytes(b"1" * 100)
    assert damage(checkpoint) is None
    (checkpoint / "model.safetensors").write_bytes(b"1" * 99)
    assert "model.safetensors has 99 bytes" in str(damage(checkpoint))
    (checkpoint / "model.safetensors").write_bytes(b"0" * 100)
    write_json(checkpoint / "state.json", {"step": 3})
    assert "state.json has other content" in str(damage(checkpoint))
    shutil.rmtree(checkpoint)
    assert damage(checkpoint) is None
