"""The `instar` command: one file a verb. It parses, hands over, and decides nothing.

Nothing heavy is imported before a verb runs.
"""

import os
import sys
from collections.abc import Sequence

from instar.core.errors import InstarError
from instar.core.products import ask_for_reproducible_products

INTERNAL = 70
INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command line and leave with its exit code; no traceback without `--debug`."""
    ask_for_reproducible_products()
    if os.environ.get("NO_COLOR"):
        os.environ.pop("FORCE_COLOR", None)  # the libraries that draw would let it win
    given = list(sys.argv[1:] if arguments is None else arguments)
    ours = given[: given.index("--")] if "--" in given else given
    is_debug = "--debug" in ours or bool(os.environ.get("INSTAR_DEBUG"))
    if "--debug" in ours:
        given.remove("--debug")
    try:
        code = _run(given)
    except Exception as error:
        if is_debug:
            raise
        code = _explained(error)
    sys.exit(code)


def _run(arguments: list[str]) -> int:
    """The exit code of one command; a closed pipe and an interrupt end it without a word."""
    try:
        from instar.cli.app import app

        app(arguments, prog_name="instar")
    except SystemExit as leaving:
        return _flushed(leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None))
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        return INTERRUPTED
    except BrokenPipeError:
        return _flushed(0)
    return _flushed(0)


def _flushed(code: int) -> int:
    try:
        sys.stdout.flush()
    except BrokenPipeError:  # the reader left; nothing may complain about it while Python shuts down
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return code


def _explained(error: Exception) -> int:
    """Say on stderr what went wrong; the exit code."""
    from instar.core.limits import named

    known = named(error) or error
    if isinstance(known, InstarError):
        text, code = str(known), known.exit_code
    else:
        what = " ".join(str(error).split())[:300]
        text, code = f"internal fault: {type(error).__name__}: {what} (--debug shows where)", INTERNAL
    sys.stderr.write(_printable(text) + "\n")
    return code


def _printable(text: str) -> str:
    """Text without control characters: messages quote data, and data must not drive a terminal."""
    return "".join(letter if letter.isprintable() or letter in "\n\t" else "?" for letter in text)
