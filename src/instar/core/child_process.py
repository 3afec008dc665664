"""Code of others, like a template, and damaged files run or are read in a child process with little time and memory."""

import os
import resource
import select
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

CPU_SECONDS = 10
WALL_SECONDS = 120
"""Long, since a child on a busy machine waits; a child that computes is ended by its CPU seconds."""
MEMORY_BYTES = 1 << 30
"""Beyond what the process had already."""
MAX_OUTPUT = 16 << 20
_HEAD = 9
"""Bytes before the text: + for a result and - for a reason, and its length."""


class LimitError(Exception):
    """The child was ended, or refused; its text says why."""


def in_child(make: Callable[[], str], cpu_seconds: int | None = None) -> str:
    """What `make` returns, made in a forked child that shares nothing but this text, as bytes through a pipe.

    `make` runs Python alone: no tensors, no threads. LimitError where it raises, or needs too much time or memory.
    """
    cpu_seconds = CPU_SECONDS if cpu_seconds is None else cpu_seconds
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        _child(make, writing, cpu_seconds)
    os.close(writing)
    try:
        content = _read(reading, max(WALL_SECONDS, WALL_SECONDS // CPU_SECONDS * cpu_seconds))
    finally:
        os.close(reading)
        _end(child)
    kind, size, text = content[:1], content[1:_HEAD], content[_HEAD:]
    if len(content) < _HEAD or int.from_bytes(size, "big") != len(text):
        raise LimitError(f"it was ended after {cpu_seconds} seconds, or for its memory")
    if kind != b"+":
        raise LimitError(text.decode("utf-8", "replace"))
    return text.decode("utf-8", "replace")


def _child(make: Callable[[], str], writing: int, cpu_seconds: int) -> None:
    """Write the result or the reason; never returns."""
    try:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        _limit(cpu_seconds)
        kind, text = _made(make)
        content = kind + len(text).to_bytes(_HEAD - 1, "big") + text
        while content:
            content = content[os.write(writing, content) :]
    finally:
        os._exit(0)


def _made(make: Callable[[], str]) -> tuple[bytes, bytes]:
    try:
        text = make().encode("utf-8", "replace")
    except MemoryError:
        return b"-", f"it needs more than {MEMORY_BYTES >> 20:,} MiB of memory".encode()
    except BaseException as error:  # noqa: BLE001  whatever it is, it ends here
        return b"-", (" ".join(str(error).split())[:300] or type(error).__name__).encode("utf-8", "replace")
    if len(text) > MAX_OUTPUT:
        return b"-", f"it makes {len(text):,} bytes; expected at most {MAX_OUTPUT:,}".encode()
    return b"+", text


def _limit(cpu_seconds: int) -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_seconds, cpu_seconds + 1))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        used = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * resource.getpagesize()
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        wanted = used + MEMORY_BYTES
        resource.setrlimit(resource.RLIMIT_AS, (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard))
    except (OSError, ValueError):
        return  # a system that counts address space otherwise


def _read(reading: int, wall_seconds: float) -> bytes:
    until, found = time.monotonic() + wall_seconds, bytearray()
    while (left := until - time.monotonic()) > 0 and len(found) <= MAX_OUTPUT + 1:
        ready, _, _ = select.select([reading], [], [], left)
        block = os.read(reading, 1 << 16) if ready else b""
        if not block:
            break
        found += block
    return bytes(found)


def _end(child: int) -> None:
    with suppress(ProcessLookupError, ChildProcessError):
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
