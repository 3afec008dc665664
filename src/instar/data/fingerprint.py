"""What a token cache is made of, as one short text."""

import hashlib
import json
import os
import time
from collections.abc import Sequence
from pathlib import Path

from instar.core.errors import InputMissingError
from instar.core.files.checksum import with_checksum, without_checksum
from instar.core.files.reading import is_stale
from instar.core.files.temporary import remove, remove_leftovers, unique_name
from instar.data.source import SourceBase
from instar.data.tokenizer import Tokenizer

FORMAT = 3
"""Raised whenever the same input would give another cache."""
_REMEMBERED_BYTES = 64 << 20
_END_BYTES = 64 << 10


def cache_fingerprint(source: SourceBase, tokenizer: Tokenizer, labels: Sequence[str] | None, folder: Path) -> str:
    """Changes with the content of any file, the tokenizer, the options of the source, and the known labels.

    Where the files lie does not matter. The digest of a file over 64 MiB is remembered in `folder`
    and used again while the file's size, time stamp and inode stay the same.
    """
    value = {
        "format": FORMAT,
        "source": source_fingerprint(source, folder),
        "tokenizer": tokenizer.fingerprint,
        "labels": None if labels is None else list(labels),
    }
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def source_fingerprint(source: SourceBase, folder: Path) -> str:
    """Changes with the content of any file and the options of the source; digests are remembered in `folder`."""
    value = {
        "source": source.options(),
        "files": [_digest(path, folder / "digests") for path in source.files()],
    }
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def stream_fingerprint(
    source: SourceBase, tokenizer: Tokenizer | None = None, labels: Sequence[str] | None = None
) -> str:
    """Changes with the options of the source, the size of any file, and its first and last 64 KiB: not all is read."""
    value = {
        "streamed": True,
        "format": FORMAT,
        "source": source.options(),
        "files": [_ends_digest(path) for path in source.files()],
        "tokenizer": None if tokenizer is None else tokenizer.fingerprint,
        "labels": None if labels is None else list(labels),
    }
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _ends_digest(path: Path) -> str:
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(0)
            digest = hashlib.sha256(f"{size} ".encode() + file.read(_END_BYTES))
            file.seek(max(0, size - _END_BYTES))
            digest.update(file.read(_END_BYTES))
    except OSError as error:
        raise InputMissingError(f"{path}: cannot be read ({error.strerror})") from error
    return digest.hexdigest()


def _digest(path: Path, memory: Path) -> str:
    try:
        facts = path.stat()
        if facts.st_size < _REMEMBERED_BYTES:
            return _hash(path)
        known = [str(path.resolve()), facts.st_size, facts.st_mtime_ns, facts.st_ino]
        note = memory / hashlib.sha256(str(known[0]).encode()).hexdigest()
        remembered = _read_note(note)
        if remembered[:-1] == known:
            return str(remembered[-1])
        started = time.time_ns()
        digest = _hash(path)
    except OSError as error:
        raise InputMissingError(f"{path}: cannot be read ({error.strerror})") from error
    if not is_stale(path, started) and path.stat().st_mtime_ns == facts.st_mtime_ns:
        memory.mkdir(parents=True, exist_ok=True)
        remove_leftovers(note)
        temporary = unique_name(note)
        try:
            temporary.write_text(json.dumps(with_checksum({"file": [*known, digest]})), encoding="utf-8")
            temporary.replace(note)
        finally:
            remove(temporary)
    return digest


def _read_note(note: Path) -> list[object]:
    try:
        return list(without_checksum(json.loads(note.read_text(encoding="utf-8")))["file"])
    except (OSError, ValueError, KeyError, TypeError):
        return [None]


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
