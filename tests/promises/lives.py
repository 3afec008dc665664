"""The process that the lives of `faults` are forks of: it imports the heavy packages once, and has a single thread."""

import json
import os
import select
import signal
import stat
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import suppress
from hashlib import sha256
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any


def serve(preload: list[str]) -> None:
    """Answer requests, a line each, until there are no more."""
    for name in preload:
        __import__(name)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)
    functions: dict[tuple[str, str], Callable[..., object]] = {}
    for line in sys.stdin.buffer:
        request = json.loads(line)
        key = (request["file"], request["function"])
        if key not in functions:
            functions[key] = _load(*key)
        answer = _live(functions[key], request)
        sys.stdout.buffer.write(json.dumps(answer).encode() + b"\n")
        sys.stdout.buffer.flush()


def _load(file: str, function: str) -> Callable[..., object]:
    if str(Path(file).parent) not in sys.path:
        sys.path.insert(0, str(Path(file).parent))
    spec = spec_from_file_location(f"program_{sha256(file.encode()).hexdigest()[:8]}", file)
    module = module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return getattr(module, function)


def _live(function: Callable[..., object], request: dict[str, Any]) -> dict[str, Any]:
    with tempfile.TemporaryFile() as output:
        told, tell = os.pipe()
        start = time.monotonic()
        child = os.fork()
        if child == 0:
            os.close(told)
            _child(function, request, output.fileno(), tell)
        os.close(tell)
        end = start + (request["limit"] if request["after"] is None else request["after"])
        status = _wait(child, told, end)
        hung = status is None and request["after"] is None
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(child, signal.SIGKILL)  # with all its own children
        if status is None:
            with suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
            status = os.waitpid(child, 0)[1]
        with os.fdopen(told, "rb", closefd=True) as pipe:
            count = os.read(pipe.fileno(), 64) if select.select([pipe], [], [], 0)[0] else b""
        output.seek(0)
        ending = "hung" if hung else "killed" if status == signal.SIGKILL else "failed" if status else "done"
        return {
            "ending": ending,
            "code": status,
            "operations": int(count or 0),
            "seconds": time.monotonic() - start,
            "output": output.read().decode(errors="replace")[-3000:],
        }


def _wait(child: int, told: int, end: float) -> int | None:
    """The child's exit status, or None when the time is over; the pipe turns readable when the child is gone."""
    while (left := end - time.monotonic()) > 0:
        select.select([told], [], [], min(left, 0.05))
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return status
        time.sleep(min(0.0005, max(left, 0)))
    return None


def _child(function: Callable[..., object], request: dict[str, Any], output: int, tell: int) -> None:
    code = 1
    try:
        os.setsid()
        for descriptor in (1, 2):
            os.dup2(output, descriptor)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        counter = _Operations(Path(request["folder"]), request["before"], power=request["power"])
        counter.install()
        function(Path(request["folder"]), **request["arguments"])
        os.write(tell, str(counter.count).encode())
        code = 0
    except SystemExit as leaving:
        code = leaving.code if isinstance(leaving.code, int) else 1
        os.write(tell, str(counter.count).encode())
    except BaseException:  # noqa: BLE001 - a forked life never returns into the server
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


class _Operations:
    """Counts this process's operations on files below a folder, and kills it before one of them."""

    def __init__(self, folder: Path, before: int | None, *, power: bool) -> None:
        self.folder, self.before, self.power = str(folder), before, power
        self.count = 0
        self.asleep = False
        self.synced = {status.st_ino: status.st_size for _, status in self._files()} if power else {}

    def install(self) -> None:
        sys.addaudithook(self._heard)
        sync = os.fsync

        def fsync(descriptor: Any) -> None:
            self._step()
            sync(descriptor)
            status = os.fstat(descriptor)
            self.synced[status.st_ino] = status.st_size

        os.fsync = fsync

    def _heard(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.asleep:
            return
        if event == "open":
            path, _, flags = arguments
            writes = flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND)
            if writes and self._inside(path):
                self._step()
        elif event in ("os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.truncate", "os.link", "os.symlink"):
            relative = event in ("os.remove", "os.rmdir") and arguments[1] != -1  # named within an open folder
            if relative or self._inside(arguments[0]):
                self._step()

    def _inside(self, path: object) -> bool:
        return isinstance(path, str | bytes | os.PathLike) and os.fsdecode(path).startswith(self.folder)

    def _step(self) -> None:
        self.count += 1
        if self.count == self.before:
            self.asleep = True
            if self.power:
                self._tear()
            os.kill(os.getpid(), signal.SIGKILL)

    def _tear(self) -> None:
        for path, status in self._files():
            kept = min(self.synced.get(status.st_ino, 0), status.st_size)
            os.truncate(path, kept + (status.st_size - kept) // 2)

    def _files(self) -> Iterator[tuple[Path, os.stat_result]]:
        for path in Path(self.folder).rglob("*"):
            status = path.lstat()
            if stat.S_ISREG(status.st_mode):
                yield path, status


if __name__ == "__main__":
    serve(sys.argv[1:])
