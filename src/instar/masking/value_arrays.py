"""The value arrays: for each character of a corpus one byte (or two), in a flat file that is mapped, not read.

A process works on a private view: pages that it changes are its own, and the file changes only when a
part of the journal is compacted into it, by writing (`ArrayWriter`), for a mapped page that the disk has no room for
kills the process. So the file and the journal give every state that a checkpoint names.
"""

import mmap
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from instar.core.errors import CheckpointError, DataError
from instar.core.files.checksum import with_checksum, without_checksum
from instar.core.files.disk import disk_errors, reserve
from instar.core.files.json_files import read_json, write_json
from instar.core.files.plain import must_be_plain
from instar.core.files.temporary import sync_folder
from instar.masking.block_checksums import BlockChecksums, drop_old

FORMAT = "instar-chances"
VERSION = 3
_WITHOUT_CHECKSUM = 1
"""Version of the headers before they had a checksum."""
_FORMER_NAMES = {
    "folded": "compacted",
    "folded_step": "compacted_step",
    "folding": "compacting",
    "folding_step": "compacting_step",
    "seals": "checksums",
}
"""Names of versions 1 and 2, and what they are called now."""
HEADER = "arrays.json"
AGE = "age"
"""Channel of the tick in which a value was written last; only of stores that keep it."""
_DTYPES: Mapping[str, np.dtype[Any]] = {"uint8": np.dtype("u1"), "float16": np.dtype("<f2")}
_TICKS: np.dtype[Any] = np.dtype("<u2")
_SMALLEST = np.float16(6e-8)

ValueType = Literal["uint8", "float16"]


@dataclass(frozen=True, kw_only=True)
class StoreSchema:
    """What a store's numbers mean; its header."""

    fingerprint: str
    """The corpus."""
    num_characters: int
    statistic: str
    """What was measured, by name."""
    scale: float = 1.0
    """The statistic's value that is stored as 1; larger ones are stored as 1 too."""
    dtype: ValueType = "uint8"
    """uint8: 0 is unseen, 1 to 255 are 0.0 to 1.0. float16: the number itself, exactly 0 is unseen."""
    channels: tuple[str, ...] = ("value",)
    tick: int = 0
    """Steps of one unit of age; 0: ages are not kept."""
    compacted: Mapping[str, int] = field(default_factory=dict)
    """How much of each rank's journal the file holds, in bytes from the journal's beginning."""
    compacted_step: int = -1
    """Steps whose changes the file holds."""
    compacting: Mapping[str, int] = field(default_factory=dict)
    """Up to where changes were being written when this was written; empty: none were."""
    compacting_step: int = -1
    checksums: str = ""
    """File of the CRCs of the files' blocks; empty: of a store that was made before there were any."""

    def all_channels(self) -> tuple[tuple[str, np.dtype[Any]], ...]:
        """Name and type of each file."""
        values = tuple((name, _DTYPES[self.dtype]) for name in self.channels)
        return (*values, (AGE, _TICKS)) if self.tick else values

    def sizes(self) -> dict[str, int]:
        """Bytes of each file."""
        return {name: self.num_characters * dtype.itemsize for name, dtype in self.all_channels()}


class ValueArrays:
    """The files of one store, mapped."""

    def __init__(self, folder: Path, schema: StoreSchema) -> None:
        """Map the files of `folder`, which were checked; nothing is read before it is asked for."""
        self.folder, self.schema = folder, schema
        self.arrays: dict[str, NDArray[Any]] = {}
        with disk_errors(folder):
            for name, dtype in schema.all_channels():
                must_be_plain(folder / f"{name}.bin")
                array = np.memmap(folder / f"{name}.bin", dtype=dtype, mode="c")
                # Samples are shuffled: what lies around one is of no use to the next.
                array._mmap.madvise(mmap.MADV_RANDOM)  # type: ignore[attr-defined]
                self.arrays[name] = array

    def put(self, name: str, index_N: NDArray[np.int64], codes_N: NDArray[Any] | int) -> None:
        """Set characters of a channel in this view; of equal ones the last counts."""
        self.arrays[name][index_N] = codes_N

    @classmethod
    def create(cls, folder: Path, schema: StoreSchema) -> None:
        """Files of zeros that the disk has room for; DiskError where it has not, and then there is no store."""
        sizes = schema.sizes()
        is_new = not folder.exists()
        try:
            with disk_errors(folder, needed=sum(sizes.values())):
                folder.mkdir(parents=True, exist_ok=True)
                (folder / HEADER).unlink(missing_ok=True)  # from here on there is no store until it is whole
                for name, size in sizes.items():
                    with (folder / f"{name}.bin").open("wb", buffering=0) as file:
                        reserve(file, size)
                        os.fsync(file.fileno())
                sync_folder(folder)
            write_checksums(folder, schema, BlockChecksums.of_zeros(sizes))
        except BaseException:
            with suppress(OSError):
                for name in sizes:
                    (folder / f"{name}.bin").unlink(missing_ok=True)
                drop_old(folder, kept="")
                if is_new:
                    folder.rmdir()
            raise


def write_checksums(folder: Path, schema: StoreSchema, checksums: BlockChecksums | None = None) -> StoreSchema:
    """Write the header with the CRCs of the files (None: as they are); returns it."""
    checksums = BlockChecksums.of_files(folder, schema.sizes()) if checksums is None else checksums
    complete = replace(schema, checksums=checksums.write(folder))
    write_header(folder, complete)
    drop_old(folder, complete.checksums)
    return complete


def write_header(folder: Path, schema: StoreSchema) -> None:
    """The header is the old one or this one at every moment."""
    write_json(folder / HEADER, with_checksum({"format": FORMAT, "version": VERSION, **asdict(schema)}))


def read_header(folder: Path) -> StoreSchema:
    """What a store says of itself; CheckpointError names a damaged one, one of a newer version, a truncated file."""
    path = folder / HEADER
    facts = read_json(path)
    if not isinstance(facts, dict) or facts.get("format") != FORMAT:
        raise CheckpointError(f"{path}: is not the header of a store of masking probabilities")
    version = facts.get("version")
    if version not in range(_WITHOUT_CHECKSUM, VERSION + 1):
        raise CheckpointError(f"{path}: format version {version!r}; this instar reads version {VERSION}")
    try:
        facts = facts if version == _WITHOUT_CHECKSUM else without_checksum(facts)
        del facts["format"], facts["version"]
        facts = {_FORMER_NAMES.get(name, name): value for name, value in facts.items()}
        facts["channels"] = tuple(facts["channels"])
        schema = StoreSchema(**facts)
        files = schema.all_channels()
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise CheckpointError(f"{path}: is damaged ({error}); take the store back from a copy") from error
    for name, dtype in files:
        file = folder / f"{name}.bin"
        size = file.stat().st_size if file.is_file() else -1
        wanted = schema.num_characters * dtype.itemsize
        if size != wanted:
            what = "is missing" if size < 0 else f"has {size:,} bytes"
            raise CheckpointError(
                f"{file}: {what}; wanted {wanted:,}; take the store back from a copy, or begin in another folder "
                "(--output, or task.masking.store)"
            )
    return schema


def must_match(folder: Path, found: StoreSchema, wanted: StoreSchema) -> None:
    """DataError if a store is of another corpus, or keeps something else; the error names both."""
    if found.fingerprint != wanted.fingerprint:
        raise DataError(
            f"{folder}: holds the probabilities of another corpus (fingerprint {found.fingerprint[:16]}, "
            f"{found.num_characters:,} characters; this corpus has {wanted.fingerprint[:16]}, "
            f"{wanted.num_characters:,} characters); name its own corpus, or choose another folder"
        )
    same = ("statistic", "scale", "dtype", "channels", "tick")
    differing = [name for name in same if getattr(found, name) != getattr(wanted, name)]
    if differing:
        parts = ", ".join(f"{name} {getattr(found, name)!r}, wanted {getattr(wanted, name)!r}" for name in differing)
        raise DataError(f"{folder}: keeps something else than is asked for ({parts}); choose another folder")


def blank(schema: StoreSchema) -> StoreSchema:
    """The same schema with nothing compacted."""
    return replace(schema, compacted={}, compacted_step=-1, compacting={}, compacting_step=-1, checksums="")


# ---- values and their codes ----


def encode(values: NDArray[np.floating], dtype: ValueType) -> NDArray[Any]:
    """Codes of numbers 0 to 1; larger and smaller ones are the nearest that can be said. NaN becomes unseen."""
    clipped = np.clip(values, 0.0, 1.0)
    if dtype == "uint8":
        codes = np.rint(clipped * np.float32(254.0)) + np.float32(1.0)
        return np.where(np.isnan(codes), 0, codes).astype(np.uint8)
    # The bits 0 of a sparse file are kept for unseen, so zero is the smallest number that is not.
    return np.where(np.isnan(clipped), 0.0, np.maximum(clipped, _SMALLEST)).astype(np.float16)


class Decoder:
    """Codes to numbers 0 to 1; `unseen` stands for what was never written."""

    def __init__(self, dtype: ValueType, unseen: float) -> None:
        self._unseen = np.float32(unseen)
        self._is_byte = dtype == "uint8"
        self._table = ((np.arange(256) - 1) / 254.0).astype(np.float32)
        self._table[0] = unseen

    def __call__(self, codes: NDArray[Any]) -> NDArray[np.float32]:
        """float32 numbers."""
        if self._is_byte:
            return self._table.take(codes)
        numbers = codes.astype(np.float32)
        numbers[codes == 0] = self._unseen
        return numbers
