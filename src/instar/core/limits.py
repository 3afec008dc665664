"""What the system did not give: open files, memory, threads, the right to a path; found behind any error.

Libraries and our own code wrap what the system reports, each in its own words. The cause is looked for
here, in one place.
"""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from instar.core.errors import DiskError, InputMissingError, InstarError, OutputError, ResourceError
from instar.core.files.disk import DISK_CODES, disk_message, system_code

_FILES = {errno.EMFILE: "this process", errno.ENFILE: "the whole system"}
_LEADS_NOWHERE = {errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG}
_RIGHTS = {errno.EACCES, errno.EPERM}
_NO_MEMORY = (
    "can't allocate memory",
    "cannot allocate memory",
    "out of memory",
    "not enough memory",
    "std::bad_alloc",
    "failed to map segment",
)
_NO_THREAD = "can't start new thread"
_TOO_MANY_FILES = "too many open files"
_DOING = {
    "data": ("reading and tokenizing the data", "data.processes, or the records and lines of the data"),
    "genome": ("reading a genome", "the files, for example one chromosome each"),
    "model": ("building the model or computing with it", "the model (layers, width, vocabulary) or train.micro_tokens"),
    "optim": ("making an optimizer step", "the model, or choose an optimizer with less state"),
    "trainer": ("training", "train.micro_tokens, train.batch_tokens or the model"),
    "task": ("preparing a step", "train.batch_tokens or data.max_length"),
    "objective": ("computing the loss", "train.micro_tokens or the vocabulary"),
    "exits": ("computing the loss", "train.micro_tokens or the vocabulary"),
    "masking": ("keeping the masking values", "the corpus, or use task.masking.kind: uniform"),
    "inference": ("using the model", "the input's records, or the model"),
    "checkpoint": ("reading or writing a checkpoint", "the model"),
    "report": ("drawing the report", "the number of logged steps (train.log_every)"),
}
"""By room: what it does, and what can be made smaller."""


def named(error: BaseException) -> InstarError | None:
    """The error that names what the system refused, if that is what is behind `error`; None if it is not."""
    for cause in _causes(error):
        found = _limit(cause, error) or _disk(cause, error) or _right(cause, error) or _gone(cause, error)
        if found is not None:
            return found
    return None


def raise_if_limited(error: BaseException) -> None:
    """Raise what `named` finds about open files, memory or rights: then nothing is known about the file itself.

    For code that would otherwise call a file damaged, and put it away.
    """
    found = _limit(error, error) or _right(error, error)
    if found is not None:
        raise found from error


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error and what it was raised from or in the handling of, the error first."""
    seen: set[int] = set()
    at: BaseException | None = error
    while at is not None and id(at) not in seen:
        seen.add(id(at))
        yield at
        at = at.__cause__ or (None if at.__suppress_context__ else at.__context__)


# ---- open files, memory, threads ----


def _limit(cause: BaseException, error: BaseException) -> ResourceError | None:
    code, text = system_code(cause), str(cause).lower()
    is_external = not isinstance(cause, InstarError)
    if code in _FILES or (is_external and _TOO_MANY_FILES in text):
        return ResourceError(_files_message(code or errno.EMFILE, cause))
    if is_external and _NO_THREAD in text:
        return ResourceError(
            f"no thread could be started while {_doing(error)[0]}: the limit of processes{_soft('NPROC')} or of "
            f"memory{_soft('AS')} is reached; raise it (`ulimit -u`, `ulimit -v`), or set OMP_NUM_THREADS=1"
        )
    if isinstance(cause, MemoryError) or code == errno.ENOMEM or (is_external and _is_memory(cause, text)):
        return ResourceError(_memory_message(cause, error))
    return None


def _is_memory(cause: BaseException, text: str) -> bool:
    if isinstance(cause, SystemError):  # C code whose allocation failed, and that did not report it
        return "without exception set" in text and bool(_soft("AS"))
    return isinstance(cause, RuntimeError | ImportError) and any(sign in text for sign in _NO_MEMORY)


def _memory_message(cause: BaseException, error: BaseException) -> str:
    (doing, smaller), limit = _doing(error), _soft("AS")
    detail = " ".join(str(cause).split())[:200]
    message = f"out of memory while {doing}{limit}{detail and ': '}{detail}"
    advice = f"make smaller: {smaller}; or " if smaller else ""
    more = "raise the limit of this process (`ulimit -v`)" if limit else "free memory, or use a larger machine"
    return f"{message}; {advice}{more}"


def _files_message(code: int, cause: BaseException) -> str:
    path = getattr(cause, "filename", None)
    opened = f"{path}: could not be opened: " if path is not None else ""
    if code == errno.ENFILE:
        return f"{opened}the whole system has too many open files; close programs, or raise fs.file-max"
    return (
        f"{opened}too many open files: this process may have no more{_soft('NOFILE')}; raise the limit before the "
        "command: `ulimit -n 4096`"
    )


def _soft(name: str) -> str:
    """` (RLIMIT_NOFILE is 16, and may be raised to 20,000)`; nothing where there is no such limit."""
    try:
        import resource
    except ImportError:  # not a Unix system
        return ""
    soft, hard = resource.getrlimit(getattr(resource, f"RLIMIT_{name}"))
    if soft == resource.RLIM_INFINITY:
        return ""
    most = "without limit" if hard == resource.RLIM_INFINITY else f"to {hard:,}"
    raised = "" if hard == soft else f", and may be raised {most}"
    return f" (RLIMIT_{name} is {soft:,}{raised})"


def _doing(error: BaseException) -> tuple[str, str]:
    """What was being done and what can be made smaller, by the innermost room of instar on the way to the error."""
    rooms: list[str] = []
    for cause in _causes(error):
        trace = cause.__traceback__
        while trace is not None:
            parts = trace.tb_frame.f_globals.get("__name__", "").split(".")
            if parts[0] == "instar" and len(parts) > 1:
                rooms.append(parts[1])
            trace = trace.tb_next
    known = [room for room in rooms if room in _DOING]
    return _DOING[known[-1]] if known else ("loading the libraries", "")


# ---- the disk ----


def _disk(cause: BaseException, error: BaseException) -> DiskError | None:
    code = system_code(cause)
    if code not in DISK_CODES or isinstance(error, InstarError):
        return None
    path = Path(getattr(cause, "filename", None) or Path.cwd())
    return DiskError(disk_message(path, os.strerror(code or 0), None))


# ---- paths ----


def _gone(cause: BaseException, error: BaseException) -> InstarError | None:
    """A path that leads nowhere, or not to what was expected, and that nobody else has explained."""
    name = getattr(cause, "filename", None)
    if system_code(cause) not in _LEADS_NOWHERE or name is None or isinstance(error, InstarError):
        return None
    return InputMissingError(f"{name}: {os.strerror(system_code(cause) or 0)}; was it moved or deleted meanwhile?")


# ---- rights ----


def _right(cause: BaseException, error: BaseException) -> InstarError | None:
    code, name = system_code(cause), getattr(cause, "filename", None)
    if code not in _RIGHTS | {errno.EROFS} or not isinstance(name, str | bytes | os.PathLike):
        return None
    path, is_reading, what = _refusal(Path(os.fsdecode(name)), code)
    kind = InputMissingError if is_reading else OutputError
    if isinstance(error, InstarError) and error is not cause:
        kind = type(error) if isinstance(error, InputMissingError | OutputError) else kind
    advice = "ask its owner for the right, or use a copy" if is_reading else "choose a folder of your own"
    return kind(f"{name if isinstance(name, str) else path}: {what}{_owner(path)}; {advice}")


def _refusal(path: Path, code: int | None) -> tuple[Path, bool, str]:
    """(what stands in the way, whether it is reading that is refused, what is refused)."""
    whole = path.absolute()
    for folder in reversed(whole.parents):
        if not _may(folder, os.X_OK):
            return folder, True, f"permission denied: the folder {folder} may not be entered"
    if code == errno.EROFS:
        return whole, False, "cannot be written: its file system is read-only"
    if _exists(whole) and not _may(whole, os.R_OK | (os.X_OK if whole.is_dir() else 0)):
        return whole, True, "permission denied: it may not be read"
    if _exists(whole) and not _may(whole, os.W_OK):
        return whole, False, "permission denied: it may not be written"
    return whole.parent, False, f"permission denied: the folder {whole.parent} may not be written to"


def _may(path: Path, mode: int) -> bool:
    return os.access(path, mode, effective_ids=os.access in os.supports_effective_ids)


def _exists(path: Path) -> bool:
    return os.path.lexists(path)


def _owner(path: Path) -> str:
    """` (it belongs to anna (1000), rwx------; this process is nobody (65534))`."""
    with suppress(OSError, AttributeError):
        facts = path.stat()
        return (
            f" (it belongs to {_user(facts.st_uid)}, {stat.filemode(facts.st_mode)[1:]}; "
            f"this process is {_user(os.geteuid())})"
        )
    return ""


def _user(number: int) -> str:
    with suppress(ImportError, KeyError):
        import pwd

        return f"{pwd.getpwuid(number).pw_name} ({number})"
    return f"user {number}"
