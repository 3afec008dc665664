"""Input files: found, opened, decompressed within limits, and read line by line.

Every fault of a file is a DataError or an InputMissingError that names it. What a
file is compressed with is decided by its first bytes, never by its name alone.
"""

import difflib
import glob
import gzip
import io
import zlib
from collections.abc import Iterable, Iterator, Set
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, cast

from instar.core.errors import DataError, InputMissingError
from instar.core.files.folders import data_files

EMBEDDED = "embedded:"
MAX_LINE = 64 << 20
"""Bytes; a longer line is a fault."""
MAX_RATIO = 200
"""Times a compressed file may grow, once it gave more than FREE_BYTES."""
FREE_BYTES = 16 << 20
MAX_FAULTS = 20
"""Faults listed in one error; the rest are counted."""
_BLOCK = 1 << 18
_PACK_AGAIN = "is not read; unpack it, or pack it with gzip or zstd"
_UNSUPPORTED = {
    b"PK\x03\x04": f"zip {_PACK_AGAIN} (save an Excel workbook as CSV)",
    b"BZh": f"bzip2 {_PACK_AGAIN}",
    b"\xfd7zXZ": f"xz {_PACK_AGAIN}",
    b"C'A\x1a": "is a 2bit genome; set `kind: twobit`",
    b"\x1aA'C": "is a 2bit genome; set `kind: twobit`",
    b"PAR1": "is a Parquet file; set `kind: parquet`",
    b"ARROW1": "is an Arrow file; save it as Parquet (`kind: parquet`)",
    b"\x89HDF": "is an HDF5 file; write its texts to JSON lines, CSV or Parquet",
    b"SQLite": "is an SQLite database; write its rows to JSON lines, CSV or Parquet",
    b"%PDF": "is a PDF document; take its text out first",
}


def embedded_folder() -> Path:
    """Where the data that comes with the package lies."""
    return Path(__file__).parents[2] / "data" / "embedded"


def resolve(paths: str | list[str], endings: tuple[str, ...] = (), left_out: Set[Path] = frozenset()) -> list[Path]:
    """The files that `paths` name, patterns expanded and sorted, of a folder those with one of the endings.

    Not those that are `left_out`, which are paths without links.

    Raises InputMissingError that lists every path that leads nowhere.
    """
    found: list[Path] = []
    problems: list[str] = []
    for text in [paths] if isinstance(paths, str) else paths:
        try:
            found += _resolve_one(text, endings, left_out)
        except InputMissingError as error:
            problems.append(str(error))
    if problems or not found:
        raise InputMissingError("\n".join(problems) or "no input file was named; give `path`")
    kept = [path for path in found if path.resolve() not in left_out] if left_out else found
    if not kept:
        raise InputMissingError(f"{paths}: all of these files are held out for another split")
    return kept


def _resolve_one(text: str, endings: tuple[str, ...], left_out: Set[Path]) -> list[Path]:
    if text.startswith(EMBEDDED):
        return [_embedded(text.removeprefix(EMBEDDED))]
    if "\0" in text:
        raise InputMissingError(f"{text!r}: a path cannot hold a NUL character")
    path = Path(text)
    if not path.exists() and glob.has_magic(text):
        every = sorted(_glob(path))
        for found in every:
            _refuse_broken_link(found)
        matches = [found for found in every if found.is_file()]
        if not matches:
            raise InputMissingError(f"{text}: no file matches this pattern{looked_from(path)}")
        return matches
    _refuse_broken_link(path)
    if not path.exists():
        raise InputMissingError(f"{text}: no such file{_near(path)}{looked_from(path)}")
    if path.is_dir():
        if not endings:
            raise InputMissingError(f"{text}: a file is expected, and this is a folder; use a pattern like {text}/*")
        return data_files(path, endings, left_out)
    return [path]


def _refuse_broken_link(path: Path) -> None:
    if path.is_symlink() and not path.exists():
        raise InputMissingError(f"{path}: is a broken link; {path.readlink()} does not exist")


def _glob(path: Path) -> Iterator[Path]:
    parts = path.parts
    fixed = next(index for index, part in enumerate(parts) if glob.has_magic(part))
    return Path(*parts[:fixed]).glob(str(Path(*parts[fixed:])))


def _near(path: Path) -> str:
    if not path.parent.is_dir():
        return f" (the folder {path.parent} does not exist either)"
    return did_you_mean(path.name, [entry.name for entry in path.parent.iterdir()])


def looked_from(path: Path) -> str:
    """Where a relative path was looked for."""
    return "" if path.is_absolute() else f" (relative paths start at the current folder, {Path.cwd()})"


def _embedded(name: str) -> Path:
    folder = embedded_folder()
    names = sorted(entry.name for entry in folder.iterdir() if entry.is_file()) if folder.is_dir() else []
    if name not in names:
        there = ", ".join(names) or "none"
        raise InputMissingError(f"{EMBEDDED}{name}: no such file{did_you_mean(name, names)}; there are: {there}")
    return folder / name


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?`, or nothing where no known name is near."""
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"; did you mean '{near[0]}'?" if near else ""


class Faults:
    """Gathers the faults of one input, to be raised together."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.count = 0

    def add(self, text: str) -> None:
        """Keep a fault; the first MAX_FAULTS are listed, the rest counted."""
        self.count += 1
        if self.count <= MAX_FAULTS:
            self.lines.append(text)

    def check(self) -> None:
        """Raise one DataError for all that were added, if any were."""
        if self.count:
            more = [f"and {self.count - MAX_FAULTS} more"] if self.count > MAX_FAULTS else []
            raise DataError("\n".join([*self.lines, *more]))


class _Limited(io.RawIOBase):
    """A decompressed stream that refuses to grow without bound."""

    def __init__(self, path: Path, raw: IO[bytes], stream: IO[bytes]) -> None:
        super().__init__()
        self._path, self._raw, self._stream = path, raw, stream
        self._given = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            data = self._stream.read(len(buffer))
        except (OSError, EOFError, zlib.error) as error:
            raise DataError(f"{self._path}: the compressed data is damaged or cut short ({error})") from error
        self._given += len(data)
        taken = max(self._raw.tell(), 1)
        if self._given > FREE_BYTES and self._given > MAX_RATIO * taken:
            raise DataError(
                f"{self._path}: {taken:,} bytes grew to more than {self._given:,} (limit {MAX_RATIO} times); "
                "this looks like a decompression bomb; unpack the file yourself if you trust it"
            )
        buffer[: len(data)] = data
        return len(data)


_POINTER = b"version https://git-lfs.github.com/spec/"
_ENCODINGS = {
    b"\xff\xfe\x00\x00": "UTF-32LE",
    b"\x00\x00\xfe\xff": "UTF-32BE",
    b"\xff\xfe": "UTF-16LE",
    b"\xfe\xff": "UTF-16BE",
}


def refuse_pointer(path: Path) -> None:
    """DataError for a git-LFS pointer: a few lines of text in place of the file's content."""
    with path.open("rb") as file:
        if file.read(len(_POINTER)) == _POINTER:
            raise DataError(
                f"{path}: is a git-LFS pointer, not the file itself, whose content was not downloaded; "
                "run `git lfs pull` in its repository, or download the file"
            )


def _refuse_other_kinds(path: Path, magic: bytes) -> None:
    """DataError for a first few bytes that show that no reader of lines can read the file."""
    if not magic:
        raise DataError(f"{path}: the file is empty")
    for start, name in _UNSUPPORTED.items():
        if magic.startswith(start):
            raise DataError(f"{path}: {name}")
    for start, name in _ENCODINGS.items():
        if magic.startswith(start):
            raise DataError(
                f"{path}: is {name} text, and UTF-8 is expected; convert it: iconv -f {name} -t UTF-8 OLD > NEW"
            )
    if magic.startswith(_POINTER[: len(magic)]):
        refuse_pointer(path)


@contextmanager
def opened(path: Path) -> Iterator[IO[bytes]]:
    """The plain bytes of a file, unpacked where it is gzip or Zstandard."""
    try:
        raw = path.open("rb")
    except FileNotFoundError as error:
        raise InputMissingError(f"{path}: no such file") from error
    except OSError as error:
        raise InputMissingError(f"{path}: cannot be read ({error.strerror})") from error
    with raw:
        magic = raw.read(6)
        raw.seek(0)
        _refuse_other_kinds(path, magic)
        if magic.startswith(b"\x1f\x8b"):
            with gzip.GzipFile(fileobj=raw) as unzipped:
                yield io.BufferedReader(_Limited(path, raw, cast("IO[bytes]", unzipped)), _BLOCK)
        elif magic.startswith(b"\x28\xb5\x2f\xfd"):
            import pyarrow

            with pyarrow.CompressedInputStream(pyarrow.PythonFile(raw, mode="r"), "zstd") as unzipped:
                yield io.BufferedReader(_Limited(path, raw, unzipped), _BLOCK)
        else:
            yield raw


def byte_blocks(path: Path) -> Iterator[bytes]:
    """The plain bytes of a text file, a block at a time; DataError for NUL bytes."""
    with opened(path) as stream:
        number, is_first = 1, True
        while block := stream.read(_BLOCK):
            if b"\0" in block:
                at = number + block[: block.index(b"\0")].count(b"\n")
                raise DataError(
                    f"{path}:{at}: holds NUL bytes; this is a binary file or UTF-16 text, and UTF-8 text is expected"
                )
            number += block.count(b"\n")
            yield block.removeprefix(b"\xef\xbb\xbf") if is_first else block
            is_first = False


def byte_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """(number from 1, line without its end) for each line; DataError for NUL bytes and overlong lines."""
    number, held_size = 1, 0
    held: list[bytes] = []
    for block in byte_blocks(path):
        *whole, rest = block.split(b"\n")
        for line in whole:
            full = b"".join([*held, line]) if held else line
            held, held_size = [], 0
            yield number, _checked(path, number, full)
            number += 1
        held.append(rest)
        held_size += len(rest)
        if held_size > MAX_LINE:
            raise DataError(f"{path}:{number}: the line is longer than {MAX_LINE >> 20} MiB")
    last = b"".join(held)
    if last:
        yield number, _checked(path, number, last)


def _checked(path: Path, number: int, line: bytes) -> bytes:
    if len(line) > MAX_LINE:
        raise DataError(f"{path}:{number}: the line is longer than {MAX_LINE >> 20} MiB")
    return line.removesuffix(b"\r")


def lines(path: Path) -> Iterator[tuple[int, str]]:
    """(number from 1, line without its end) for each line of a UTF-8 file."""
    for number, line in byte_lines(path):
        try:
            yield number, line.decode()
        except UnicodeDecodeError as error:
            raise DataError(
                f"{path}:{number}: not UTF-8 (byte 0x{line[error.start]:02x} at byte {error.start + 1} of the line); "
                "this is a binary file or another encoding; convert it, for example with iconv"
            ) from error


def is_stale(path: Path, since_ns: int) -> bool:
    """Whether a file may have changed after `since_ns` without a visible change of its time stamp."""
    return path.stat().st_mtime_ns + 2_000_000_000 > since_ns
