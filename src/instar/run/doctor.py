"""What this machine offers a run, measured, with advice where something is wrong."""

import os
import platform
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from instar.core.products import SETTING, VALUE

NEEDED = ("torch", "transformers", "tokenizers", "datasets", "safetensors", "pyarrow", "pydantic", "numpy")
OPTIONAL = {"tensorboard": ("curves in TensorBoard", "pip install tensorboard")}
GIGABYTE = 1 << 30
_LOW_DISK, _NO_DISK = 5 * GIGABYTE, GIGABYTE // 2
_LOW_MEMORY = 2 * GIGABYTE
_WRITTEN = 16 << 20
_SLOW_WRITE = 20.0  # MB/s: a checkpoint of 100 M weights would take a minute
_MATRIX = 768
_REPEATS = 4


@dataclass(frozen=True)
class Finding:
    """One line of the doctor's: what was looked at, how it stands, and what to do about it."""

    name: str
    status: Literal["OK", "WARN", "FAIL"]
    found: str
    fix: str = ""

    def __str__(self) -> str:
        return f"{self.status:<4} {self.name:<9} {self.found}" + (f"; fix: {self.fix}" if self.fix else "")


def doctor(folder: Path) -> Iterator[Finding]:
    """Look at versions, device, threads, memory, and the disk under `folder`; takes a few seconds."""
    yield _versions()
    yield _device()
    yield _threads()
    yield _products()
    yield _memory()
    yield _free_disk(folder)
    yield _write_speed(folder)
    yield from _optional()


def _versions() -> Finding:
    missing, found = [], [f"python {platform.python_version()}"]
    for name in ("instar", *NEEDED):
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            missing.append(name)
    text = ", ".join(found)
    if missing:
        return Finding("versions", "FAIL", f"{text}; missing {', '.join(missing)}", f"pip install {' '.join(missing)}")
    return Finding("versions", "OK", text)


def _device() -> Finding:
    import torch

    if torch.cuda.is_available():
        names = [torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())]
        return Finding("device", "OK", ", ".join(f"{one.name} {one.total_memory / GIGABYTE:.0f} GiB" for one in names))
    if torch.version.cuda is None and shutil.which("nvidia-smi"):
        fix = "install a torch build with CUDA (https://pytorch.org)"
        return Finding("device", "WARN", "an NVIDIA driver is here, and this torch was built without CUDA", fix)
    return Finding("device", "OK", f"CPU ({torch.backends.cpu.get_cpu_capability()}), no GPU")


def _threads() -> Finding:
    import torch

    default = torch.get_num_threads()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    one = _matmul_speed(1)
    if default == 1:
        return Finding("threads", "OK", f"1 of {cores} cores: {one:.0f} GFLOP/s")
    many = _matmul_speed(default)
    found = f"{default} threads on {cores} cores: {many:.0f} GFLOP/s; one thread: {one:.0f} GFLOP/s"
    if many < one:
        return Finding("threads", "WARN", found, "more threads are slower here: export OMP_NUM_THREADS=1")
    return Finding("threads", "OK", found)


def _products() -> Finding:
    import torch

    from instar.model.products import depend_on_alignment

    setting = f"{SETTING}={os.environ.get(SETTING, 'unset')}"
    if not torch.backends.mkl.is_available():
        setting = "no MKL"
    if depend_on_alignment():
        found = f"float32 products depend on memory alignment ({setting})"
        return Finding("products", "WARN", found, f"unset {SETTING}, or export {SETTING}={VALUE}")
    return Finding("products", "OK", f"float32 products are the same at any memory alignment ({setting})")


def _matmul_speed(threads: int) -> float:
    """Best of a few matrix products in GFLOP/s, with this many threads."""
    import torch

    with _using(threads):
        left, right = torch.ones(_MATRIX, _MATRIX), torch.ones(_MATRIX, _MATRIX)
        seconds = []
        for _ in range(_REPEATS):
            start = time.perf_counter()
            torch.mm(left, right)
            seconds.append(time.perf_counter() - start)
    return 2 * _MATRIX**3 / min(seconds) / 1e9


@contextmanager
def _using(threads: int) -> Iterator[None]:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _memory() -> Finding:
    try:
        free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return Finding("memory", "OK", "not known on this system")
    found = f"{free / GIGABYTE:.1f} GiB free of {total / GIGABYTE:.1f} GiB"
    if total < _LOW_MEMORY:
        return Finding("memory", "WARN", found, "keep train.batch_tokens small")
    return Finding("memory", "OK", found)


def _free_disk(folder: Path) -> Finding:
    try:
        free = shutil.disk_usage(folder).free
    except OSError as error:
        return Finding("disk", "FAIL", f"{folder}: {error.strerror}", "name a folder that exists")
    found = f"{free / GIGABYTE:.1f} GiB free under {folder.absolute()}"
    if free < _NO_DISK:
        return Finding("disk", "FAIL", found, "free some space, or pass --output on another disk")
    if free < _LOW_DISK:
        return Finding("disk", "WARN", found, "keep few checkpoints, or pass --output on another disk")
    return Finding("disk", "OK", found)


def _write_speed(folder: Path) -> Finding:
    block = b"\0" * _WRITTEN
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            start = time.perf_counter()
            file.write(block)
            file.flush()
            written = time.perf_counter()
            os.fsync(file.fileno())
            end = time.perf_counter()
    except OSError as error:
        return Finding(
            "writing", "FAIL", f"{folder.absolute()}: {error.strerror}", "pass --output in a writable folder"
        )
    speed = _WRITTEN / 1e6 / (end - start)
    found = f"{speed:.0f} MB/s, fsync of {_WRITTEN >> 20} MiB in {(end - written) * 1000:.0f} ms"
    if speed < _SLOW_WRITE:
        return Finding("writing", "WARN", found, "save less often, or pass --output on a local disk")
    return Finding("writing", "OK", found)


def _optional() -> Iterator[Finding]:
    for name, (use, install) in OPTIONAL.items():
        if find_spec(name) is None:
            yield Finding("optional", "WARN", f"{name} is not installed ({use})", install)
        else:
            yield Finding("optional", "OK", f"{name} ({use})")
