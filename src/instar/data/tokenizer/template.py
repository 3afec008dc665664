"""Where a tokenizer's chat template is written down."""

import json
from pathlib import Path
from typing import Any

from instar.core.errors import DataError
from instar.core.model_folder import must_lie_in

TEMPLATE_FILE = "chat_template.jinja"


def read_template(folder: Path) -> str | None:
    """The chat template of a tokenizer's folder, from its own file or its configuration; of several, the default."""
    path = folder / TEMPLATE_FILE
    if path.is_file():
        must_lie_in(folder, path)
        try:
            return path.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise DataError(f"{path}: not UTF-8 text ({error.reason})") from error
    try:
        value = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8")).get("chat_template")
    except (OSError, ValueError, AttributeError, RecursionError):
        return None
    if isinstance(value, list):
        named = {one.get("name"): one.get("template") for one in value if isinstance(one, dict)}
        value = named.get("default")
    return value if isinstance(value, str) else None


def read_object(path: Path) -> dict[str, Any]:
    """The object in a JSON file; {} where there is no file, or something else in it."""
    if not path.is_file():
        return {}
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: not JSON ({error})") from error
    return value if isinstance(value, dict) else {}
