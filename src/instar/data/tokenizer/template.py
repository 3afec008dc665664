"""Where a tokenizer's chat template is written down."""

import json
from pathlib import Path

from instar.core.errors import DataError

TEMPLATE_FILE = "chat_template.jinja"


def read_template(folder: Path) -> str | None:
    """The chat template of a tokenizer's folder, from its own file or its configuration; of several, the default."""
    path = folder / TEMPLATE_FILE
    if path.is_file():
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
