"""What makes a CPU fast without changing a result: the matmul library and the allocator.

Both are properties of the process, so they are switched on by whoever owns it, never at import.
"""

import ctypes
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

EXACT = 8.0
"""How far oneDNN's error may lie above the plain library's: bfloat16 would be thousands of times above."""

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4


@dataclass(frozen=True)
class MatmulProbe:
    """One random matrix product by both libraries: largest error against float64, and seconds."""

    plain_error: float
    onednn_error: float
    plain_seconds: float
    onednn_seconds: float

    @property
    def is_exact(self) -> bool:
        """True if oneDNN's float32 products are float32 products."""
        return self.onednn_error <= EXACT * self.plain_error


@dataclass(frozen=True)
class FastCpu:
    """What `use_fast_cpu` did, for the log."""

    onednn: bool
    allocator: bool
    probe: MatmulProbe | None

    def __str__(self) -> str:
        matmul = "plain"
        if self.onednn and self.probe is not None:
            matmul = f"oneDNN ({self.probe.plain_seconds / self.probe.onednn_seconds:.1f}x, exact)"
        return f"float32 matmul: {matmul}; allocator: {'keeps memory' if self.allocator else 'as is'}"


def use_fast_cpu() -> FastCpu:
    """Switch float32 products to oneDNN where that is exact and faster, and let the allocator keep its memory.

    Lasts for the process (forward and backward must see it); safe to call again. What it decides is a property of
    the machine, never of how busy it is: a run that starts again computes bit for bit as before.
    """
    probe = probe_matmul() if torch.backends.mkldnn.is_available() else None
    onednn = probe is not None and probe.is_exact and _is_slow_with_mkl()
    if onednn:
        _matmul().fp32_precision = "bf16"
    return FastCpu(onednn=onednn, allocator=tune_allocator(), probe=probe)


@contextmanager
def fast_cpu() -> Iterator[None]:
    """`use_fast_cpu` within; the matmul switch is put back after."""
    before = _matmul().fp32_precision
    use_fast_cpu()
    try:
        yield
    finally:
        _matmul().fp32_precision = before


def use_plain_cpu() -> None:
    """Undo the matmul switch (the allocator stays as it is)."""
    _matmul().fp32_precision = "none"


def _matmul() -> Any:
    """Torch's switch for float32 products of the CPU."""
    return cast(Any, torch.backends.mkldnn).matmul


@cache
def probe_matmul() -> MatmulProbe:
    """Measure once a process; leaves the switch as it was and draws from no global generator.

    "bf16" allows oneDNN to compute in bfloat16; CPUs without such kernels for float32 inputs compute exactly, and
    nothing but a measurement tells which kind this is.
    """
    generator = torch.Generator().manual_seed(0)
    left, right = (torch.randn(shape, generator=generator) for shape in ((768, 512), (512, 768)))
    exact = left.double() @ right.double()
    before = _matmul().fp32_precision
    measured: list[tuple[float, float]] = []
    try:
        for precision in ("ieee", "bf16"):
            _matmul().fp32_precision = precision
            measured.append((_error(left, right, exact), _seconds(left, right)))
    finally:
        _matmul().fp32_precision = before
    (plain_error, plain_seconds), (onednn_error, onednn_seconds) = measured
    return MatmulProbe(plain_error, onednn_error, plain_seconds, onednn_seconds)


def _error(left: Tensor, right: Tensor, exact: Tensor) -> float:
    return float((left @ right - exact).abs().max())


def _seconds(left: Tensor, right: Tensor) -> float:
    """Best of several, so that a busy machine does not decide."""
    best = float("inf")
    for _ in range(8):
        start = time.perf_counter()
        left @ right
        best = min(best, time.perf_counter() - start)
    return best


@contextmanager
def plain_matmul() -> Iterator[None]:
    """Inside, float32 products do not go to oneDNN: its set-up costs more than a small product."""
    matmul = _matmul()
    before = matmul.fp32_precision
    if before != "bf16":
        yield
        return
    matmul.fp32_precision = "ieee"
    try:
        yield
    finally:
        matmul.fp32_precision = before


@cache
def _is_slow_with_mkl() -> bool:
    """True on CPUs whose AVX-512 MKL leaves unused: those that Intel did not make."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return any(vendor in text for vendor in ("AuthenticAMD", "HygonGenuine"))


@cache
def tune_allocator() -> bool:
    """Let glibc keep freed memory instead of returning it to the system after each step; True if it did."""
    if sys.platform != "linux":
        return False
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return False
    settings = ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, 2**31 - 1), (_M_TOP_PAD, 256 << 20))
    accepted = [mallopt(name, value) == 1 for name, value in settings]
    return all(accepted)
