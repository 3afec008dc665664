"""HDF5 shards of masking values, as the system before instar kept them.

`shard_7.hdf5` holds the samples 7 N to 8 N - 1, each as a data set named by its number within the shard: a float for
each character, NaN where nothing is known. Samples are the documents of the source in order, empty ones counted. Data
sets and shards that are not there are unseen: such stores were filled during training.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from instar.core.child_process import CPU_SECONDS, LimitError, in_child
from instar.core.errors import DataError, InputMissingError, OutputError, UsageError
from instar.core.files.durable import publish_file
from instar.core.files.plain import must_be_plain
from instar.genome.track import MAX_FAULTS, Values
from instar.masking.value_arrays import StoreSchema
from instar.tracks.stored import Stored, What, lengths_of

SAMPLES_PER_SHARD = 2562
"""Samples of a shard that is written, where no other number is given."""
_ENDINGS = (".hdf5", ".h5")
_FILE = re.compile(r"shard_([0-9]{1,9})\.(?:hdf5|h5)")
_KEY = re.compile(r"0|[1-9][0-9]{0,8}")
_FORMAT = "instar-masking-values"
_MOST_CHUNK = 1 << 24
"""Values of a chunk that is read as one; larger ones cost memory whatever the data set's length."""
_BYTES_A_SECOND = 20_000_000
"""At least so many are read in a CPU second; a file that takes longer is not read on."""
_DAMAGE = (OSError, ValueError, TypeError, KeyError, RuntimeError)
"""What h5py raises for damaged files."""


def write_shards(stored: Stored, name: str, what: What, folder: Path, samples_per_shard: int) -> None:
    """Write a store's values into a folder that holds no shards yet; OutputError for one that does."""
    h5py = _h5py()
    folder.mkdir(parents=True, exist_ok=True)
    there = [path for path in folder.iterdir() if _is_hdf5(path)]
    if there:
        raise OutputError(f"{folder}: holds shards already ({min(there).name}); choose another folder")
    numbers_N = sample_numbers(stored)
    schema = stored.stores[name].schema
    facts = {
        "format": _FORMAT,
        "fingerprint": stored.offsets.fingerprint,
        "samples_per_shard": samples_per_shard,
        "what": what,
        "statistic": schema.statistic,
        "scale": schema.scale,
    }
    dtype = np.float32 if what == "age" else np.float16  # a step beyond 2,048 is no float16
    for shard in np.unique(numbers_N // samples_per_shard).tolist():
        with publish_file(folder / f"shard_{shard}.hdf5") as path, h5py.File(path, "w") as file:
            file.attrs.update(facts)
            low, high = np.searchsorted(numbers_N, [shard * samples_per_shard, (shard + 1) * samples_per_shard])
            for document in range(low, high):
                key = str(numbers_N[document] - shard * samples_per_shard)
                file.create_dataset(key, data=stored.quantity(name, what, document).astype(dtype))


def sample_numbers(stored: Stored) -> NDArray[np.int64]:
    """(N,) number of each document among those of its source, where empty ones count; ascending."""
    report, source = stored.cache.report, stored.source
    if not report["empty_documents"] and not report["unlabelled_documents"]:
        return np.arange(stored.cache.num_documents)
    numbers = [
        number
        for number, document in enumerate(source.documents())
        if document.text and not document.text.isspace() and not (source.is_labelled and document.label is None)
    ]
    if len(numbers) != stored.cache.num_documents:
        raise DataError(
            f"{source.files()[0]}: {len(numbers) - stored.cache.num_documents:,} documents hold nothing that the "
            "tokenizer keeps, so it cannot be known which number in the shards belongs to which document; remove them"
        )
    return np.array(numbers, dtype=np.int64)


@dataclass(frozen=True)
class _Sample:
    """A data set that was checked, and the document that it is of."""

    path: Path
    key: str
    document: int


class Shards:
    """The shards of a folder, checked against a corpus."""

    def __init__(self, stored: Stored, schema: StoreSchema, folder: Path, samples_per_shard: int | None = None) -> None:
        """Read and check every data set; one DataError names all faults by file and key.

        `schema` is that of the store which is to take the values.

        `samples_per_shard` None: as recorded in shards that instar wrote, or no matter, where there is shard 0 only.
        """
        self._h5py = _h5py()
        self._folder = folder
        self._expected: dict[str, Any] = {"fingerprint": stored.offsets.fingerprint, "what": "value"}
        self._expected |= {"statistic": schema.statistic, "scale": schema.scale}
        self._lengths = lengths_of(stored.offsets).tolist()
        self._numbers = {int(number): document for document, number in enumerate(sample_numbers(stored))}
        self._faults: list[str] = []
        self._num_faults = 0
        files = self._files()
        self._check()
        self._declared: int | None = samples_per_shard
        self.samples: list[_Sample] = []
        self._found: set[int] = set()
        for shard, path in sorted(files.items()):
            self._must_be_readable(path)
            with _damaged(path), self._h5py.File(path, "r") as file:
                self._declare(path, file)
                self._scan(shard, path, file)
        self._check()
        self._size = self._declared or len(self._numbers) or 1

    def values(self) -> Iterator[tuple[int, Values]]:
        """(document, its values) of every data set; NaN where nothing is known."""
        for path, samples in groupby(self.samples, key=attrgetter("path")):
            with self._h5py.File(path, "r") as file:
                for sample in samples:
                    with _damaged(path):
                        values = np.asarray(file[sample.key], dtype=np.float32)
                    yield sample.document, values

    def facts(self) -> dict[str, int]:
        """How many documents have a data set, and how many have none."""
        return {"samples": len(self.samples), "missing_samples": len(self._numbers) - len(self.samples)}

    def notices(self) -> tuple[str, ...]:
        """What is to be reported about what is missing."""
        missing = len(self._numbers) - len(self.samples)
        if not missing:
            return ()
        expected = {number // self._size for number in self._numbers}
        gone = sorted(expected - self._found)
        shards = f"; there are no shards {_ranges(gone)}" if gone else ""
        return (
            f"{self._folder}: {missing:,} of {len(self._numbers):,} documents have no data set and are unseen{shards}",
        )

    def _files(self) -> dict[int, Path]:
        found: dict[int, Path] = {}
        for path in sorted(self._folder.iterdir()):
            match = _FILE.fullmatch(path.name)
            if match is not None and found.setdefault(int(match[1]), path) != path:
                self._fault(f"{path} and {found[int(match[1])]}: both are shard {int(match[1])}; keep one of them")
            elif match is None and _is_hdf5(path):
                self._fault(f"{path}: the number of this shard is not known; expected a name like shard_12.hdf5")
        if not found and not self._faults:
            inside = sorted({path.parent.name for path in self._folder.glob("*/shard_*.hdf5")})
            hint = f"; there are some in {', '.join(inside[:5])}: name that folder" if inside else ""
            raise InputMissingError(f"{self._folder}: holds no HDF5 shards (shard_0.hdf5, ...){hint}")
        return found

    def _must_be_readable(self, path: Path) -> None:
        """DataError for a file whose damage the HDF5 library does not survive: a child process reads all of it first.

        A few changed bytes send the library round in a circle, or let it ask for any amount of memory.
        """
        must_be_plain(path)
        longest = max(self._lengths, default=0)
        try:
            in_child(lambda: self._walk(path, longest), CPU_SECONDS + path.stat().st_size // _BYTES_A_SECOND)
        except LimitError as error:
            raise DataError(f"{path}: is not a whole HDF5 shard (reading it failed: {error})") from error

    def _walk(self, path: Path, longest: int) -> str:
        """Read attributes, links, headers and values, as `__init__` does after it; faults are reported there."""
        with suppress(*_DAMAGE), self._h5py.File(path, "r") as file:
            for name in file.attrs:
                if file.attrs.get_id(name).shape == ():
                    file.attrs[name]
            for key in file:
                with suppress(*_DAMAGE):
                    dataset = file[key] if isinstance(file.get(key, getlink=True), self._h5py.HardLink) else None
                    if isinstance(dataset, self._h5py.Dataset) and not (dataset.is_virtual or dataset.external):
                        small = dataset.chunks is None or dataset.chunks[0] <= max(_MOST_CHUNK, longest)
                        if small and len(dataset.shape) == 1 and len(dataset) <= longest:
                            dataset[()]
        return ""

    def _declare(self, path: Path, file: Any) -> None:
        """Take over what a shard that instar wrote records of itself, and check it."""
        facts = {name: file.attrs[name] for name in file.attrs if file.attrs.get_id(name).shape == ()}
        if facts.get("format") != _FORMAT:
            return
        size = facts.get("samples_per_shard")
        if not isinstance(size, int | np.integer) or size < 1:
            self._fault(f"{path}: is damaged: its attribute samples_per_shard is {size!r}")
            return
        if self._declared not in (None, int(size)):
            self._fault(f"{path}: was written with {size:,} samples per shard; expected {self._declared:,}")
        self._declared = self._declared or int(size)
        if facts.get("fingerprint") != self._expected["fingerprint"]:
            self._fault(f"{path}: holds the values of another corpus")
            return
        for name in ("what", "statistic", "scale"):
            if facts.get(name) != self._expected[name]:
                self._fault(f"{path}: its {name} is {facts.get(name)}; expected {self._expected[name]}, as in the run")

    def _scan(self, shard: int, path: Path, file: Any) -> None:
        if self._declared is None and shard:
            self._fault(
                f"{path}: how many samples a shard has is not known, so neither is which documents these are; set it "
                f"with --shard N ({SAMPLES_PER_SHARD:,} is what `instar tracks export` writes)"
            )
            return
        self._found.add(shard)
        for key in file:
            document, fault = self._document(shard, key)
            fault = fault or self._link_fault(file, key)
            fault = fault or self._fault_of(file[key], self._lengths[document])
            if fault:
                self._fault(f"{path}: sample {key if key.isdecimal() else repr(key[:40])} {fault}")
            else:
                self.samples.append(_Sample(path, key, document))

    def _document(self, shard: int, key: str) -> tuple[int, str]:
        """(the document, or what is wrong with the key)."""
        if _KEY.fullmatch(key) is None:
            return 0, "has a name that is not the number of a sample"
        if self._declared is not None and int(key) >= self._declared:
            return 0, (
                f"is of shard {shard + int(key) // self._declared} where shards have {self._declared:,} samples; is "
                "--shard N another number?"
            )
        number = shard * (self._declared or 0) + int(key)
        if number not in self._numbers:
            last = max(self._numbers, default=-1)
            what = "which is empty in this corpus" if number < last else f"and the last of this corpus is {last:,}"
            return 0, f"is of document {number:,}, {what}; the shards are of other data, or --shard N is another number"
        return self._numbers[number], ""

    def _link_fault(self, file: Any, key: str) -> str:
        link = file.get(key, getlink=True)
        if not isinstance(link, self._h5py.HardLink):
            what = "an external link" if isinstance(link, self._h5py.ExternalLink) else "a soft link"
            return f"is {what}, which is not followed; write the values themselves"
        if self._h5py.h5o.get_info(file[key].id).rc > 1:
            return "has more than one name (a hard link); write the values of each sample"
        return "" if isinstance(file[key], self._h5py.Dataset) else "is no data set"

    def _fault_of(self, dataset: Any, length: int) -> str:
        """What is wrong with a data set that is to have so many values."""
        if dataset.is_virtual or dataset.external:
            what = "is a virtual data set, whose values lie" if dataset.is_virtual else "has its values"
            return f"{what} in another file; write the values themselves"
        if dataset.dtype.kind != "f" or dataset.dtype.itemsize > 8:
            return f"is of type {dataset.dtype}; expected float16, float32 or float64"
        if len(dataset.shape) != 1:
            return f"has the shape {dataset.shape}; expected one value for each of {length:,} characters"
        if len(dataset) != length:
            return f"has {len(dataset):,} values; wanted {length:,}, one for each character of the document"
        if dataset.chunks is not None and dataset.chunks[0] > max(_MOST_CHUNK, length):
            return f"is stored in chunks of {dataset.chunks[0]:,} values, and has {length:,}"
        is_written = dataset.id.get_space_status() == self._h5py.h5d.SPACE_STATUS_ALLOCATED
        if not is_written and not np.isnan(dataset.fillvalue):
            return f"was not written (its values would be {dataset.fillvalue}); expected NaN where nothing is known"
        values = np.asarray(dataset[()])
        wrong = np.flatnonzero(~((values >= 0) & (values <= 1) | np.isnan(values)))
        if len(wrong):
            return f"has values outside 0 to 1: {values[wrong[0]]:g} at {wrong[0]:,}, and {len(wrong) - 1:,} more"
        return ""

    def _fault(self, text: str) -> None:
        self._num_faults += 1
        if len(self._faults) < MAX_FAULTS:
            self._faults.append(text)

    def _check(self) -> None:
        if self._num_faults:
            more = self._num_faults - len(self._faults)
            raise DataError("\n".join([*self._faults, *([f"and {more:,} more"] if more else [])]))


def _is_hdf5(path: Path) -> bool:
    return path.suffix.lower() in _ENDINGS and not path.name.startswith(".")


def _ranges(numbers: list[int]) -> str:
    """Ascending numbers, those that follow each other as 3-7."""
    starts = [number for number in numbers if number - 1 not in set(numbers)]
    ends = [number for number in numbers if number + 1 not in set(numbers)]
    ranges = [str(a) if a == b else f"{a}-{b}" for a, b in zip(starts, ends, strict=True)]
    return ", ".join(ranges[:8]) + (f" and {len(ranges) - 8} more" if len(ranges) > 8 else "")


@contextmanager
def _damaged(path: Path) -> Iterator[None]:
    must_be_plain(path)
    try:
        yield
    except DataError:
        raise
    except _DAMAGE as error:
        raise DataError(f"{path}: is not a whole HDF5 shard ({error})") from error


def _h5py() -> Any:
    try:
        import h5py
    except ImportError as error:
        raise UsageError("HDF5 needs the package h5py; install it with: pip install 'instar[genome]'") from error
    return h5py
