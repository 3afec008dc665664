"""The `instar` command: one file a verb. It parses, hands over, and decides nothing.

Nothing heavy is imported before a verb runs.
"""

import os
import sys
from collections.abc import Sequence

from instar.cli.launched import CommandLineError, is_main, takes_part
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
        if not takes_part(arguments):
            return 0
        from instar.cli.app import app

        code = app(arguments, prog_name="instar", standalone_mode=is_main())
    except SystemExit as leaving:
        return _flushed(leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None))
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        return INTERRUPTED
    except BrokenPipeError:
        return _flushed(0)
    except Exception as error:
        if is_main() or not _is_usage_error(error):
            raise
        return int(error.exit_code)  # type: ignore[attr-defined]
    return _flushed(code if isinstance(code, int) else 0)


def _is_usage_error(error: Exception) -> bool:
    """True for what every process finds wrong with a command line: then the main process reports it."""
    is_of_parser = hasattr(error, "exit_code") and not isinstance(error, InstarError)
    return is_of_parser or isinstance(error, CommandLineError)


def _flushed(code: int) -> int:
    try:
        sys.stdout.flush()
    except BrokenPipeError:  # the reader left; nothing may complain about it while Python shuts down
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return code


def _explained(error: Exception) -> int:
    """Report on stderr what went wrong; the exit code."""
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
