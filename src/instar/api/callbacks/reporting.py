"""Transformers' own callbacks for TensorBoard, W&B, MLflow and the like, taken as they are."""

from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any


def reporting_callbacks(report_to: str | Sequence[str] | None, logging_dir: str | None = None) -> list[Any]:
    """The classes that `report_to` names; "all" means every one whose package is installed, "none" or None no one.

    TensorBoard's writes to `logging_dir` where one is given (an old argument), else below the output folder.

    Nothing is imported for no one. ValueError for names that there are none of, all at once.
    """
    names = [report_to] if isinstance(report_to, str) else list(report_to or ())
    if names in ([], ["none"]):
        return []
    from transformers.integrations import integration_utils

    if names == ["all"]:
        names = integration_utils.get_available_reporting_integrations()
    known: dict[str, Any] = integration_utils.INTEGRATION_TO_CALLBACK
    if unknown := [name for name in names if name not in known]:
        raise ValueError("report_to: " + "; ".join(_unknown(name, known) for name in unknown))
    return [known[name] if logging_dir is None else _writing_to(logging_dir, known[name]) for name in names]


def _writing_to(folder: str, callback: Any) -> Any:
    if callback.__name__ != "TensorBoardCallback":
        return callback
    writer = callback()
    writer.logging_dir = str(Path(folder).expanduser())
    return writer


def _unknown(name: str, known: dict[str, Any]) -> str:
    near = get_close_matches(name, known, n=1)
    meant = f" (did you mean {near[0]!r}?)" if near else ""
    return f"{name} is not supported{meant}, only {', '.join(known)} are supported"
