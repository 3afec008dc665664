"""What a user writes for a path: a home folder and variables stand for what they name."""

import os
import re
from pathlib import Path

_VARIABLE = re.compile(r"\$(?:\{(?P<braced>[^}]*)\}|(?P<plain>[A-Za-z_][A-Za-z0-9_]*))")


def expanded(text: str) -> str:
    """A path with `~`, `~user`, `$NAME` and `${NAME}` replaced; one that exists as it is written stays as it is.

    ValueError for a user who is not known and for a variable that is not set: a folder is never named `~` by mistake.
    """
    if "$" in text and not Path(text).exists():
        text = _VARIABLE.sub(_value, text)
    found = os.path.expanduser(text)  # noqa: PTH111  `Path.expanduser` raises RuntimeError
    if found.startswith("~"):
        raise ValueError(
            f"{text!r}: there is no user {found[1:].split('/')[0]!r}; write ./{text} for a name that begins with ~"
        )
    return found


def _value(match: re.Match[str]) -> str:
    name = match["braced"] if match["plain"] is None else match["plain"]
    if name not in os.environ:
        raise ValueError(f"{match[0]}: the environment variable {name!r} is not set; set it, or write the path out")
    return os.environ[name]
