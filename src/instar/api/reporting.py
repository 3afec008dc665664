"""Logs and metrics: what goes to the callbacks, to the screen, and into files of the output folder."""

import datetime
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers.trainer_utils import speed_metrics

from instar.api.base import TrainerParts
from instar.api.memory import TrainerMemoryTracker
from instar.core.files.durable import replace_bytes
from instar.trainer.parallel import group

__all__ = ["Reporting", "TrainerMemoryTracker", "metrics_format"]

_ALL_RESULTS = "all_results.json"


def metrics_format(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Metrics as people read them: memory in MB, run times as h:mm:ss.cc, operations in GF, the rest at 4 places."""
    return {name: _readable(name, value) for name, value in metrics.items()}


def _readable(name: str, value: Any) -> Any:
    if "_mem_" in name and isinstance(value, int):
        return f"{value >> 20}MB"
    if "_runtime" in name:
        hundredths = int(abs(value - int(value)) * 100)
        return f"{datetime.timedelta(seconds=int(value))}.{hundredths:02d}"
    if name == "total_flos":
        return f"{int(value) >> 30}GF"
    return round(value, 4) if isinstance(value, float) else value


class Reporting(TrainerParts):
    """Logs and metrics."""

    def log(self, logs: dict[str, Any], start_time: float | None = None) -> None:
        """Put `logs` into the state's history and before every callback, with the epoch and the tokens seen.

        `start_time` (of `time.time()`) adds the run time and the tokens per second of this call of `train`.
        """
        if self.state.epoch is not None:
            logs["epoch"] = self.state.epoch
        if self.args.include_num_input_tokens_seen not in ("no", False):
            seen = self.state.num_input_tokens_seen
            logs["num_input_tokens_seen"] = seen
            if start_time is not None:
                before = getattr(self, "_initial_num_input_tokens_seen", 0)
                logs.update(speed_metrics("train", start_time, num_tokens=seen - before))
        self.state.log_history.append({**logs, "step": self.state.global_step})
        self.control = self.callback_handler.on_log(self.args, self.state, self.control, logs)

    def metrics_format(self, metrics: Mapping[str, Any]) -> dict[str, Any]:
        """Metrics as people read them; see `metrics_format` of this module."""
        return metrics_format(metrics)

    def log_metrics(self, split: str, metrics: Mapping[str, Any]) -> None:
        """Write the metrics of a split to the standard output, sorted, on the main process only."""
        if not self.is_world_process_zero():
            return
        readable = {str(name): str(value) for name, value in metrics_format(metrics).items()}
        names = max(map(len, readable), default=0)
        values = max(map(len, readable.values()), default=0)
        lines = [f"  {name: <{names}} = {readable[name]:>{values}}" for name in sorted(readable)]
        sys.stdout.write("\n".join([f"***** {split} metrics *****", *lines, ""]))

    def save_metrics(self, split: str, metrics: Mapping[str, Any], combined: bool = True) -> None:
        """Write `<split>_results.json`, and (combined) put the same into `all_results.json`; the main process only."""
        if not self.is_world_process_zero():
            return
        folder = Path(str(self.args.output_dir))
        folder.mkdir(parents=True, exist_ok=True)
        _write_sorted(folder / f"{split}_results.json", metrics)
        if not combined:
            return
        path = folder / _ALL_RESULTS
        known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        _write_sorted(path, {**known, **metrics})

    def save_state(self) -> None:
        """Write `trainer_state.json` into the output folder, on the main process only."""
        if not self.is_world_process_zero():
            return
        folder = Path(str(self.args.output_dir))
        folder.mkdir(parents=True, exist_ok=True)
        self.state.save_to_json(str(folder / "trainer_state.json"))

    def end(self) -> None:
        """Wait for uploads and leave the group of processes: the last call of a script, nothing together after it."""
        self._finish_current_push()
        group.close()

    def store_flos(self) -> None:
        """Move the floating-point operations counted since the last call, on all ranks, into the state."""
        counted = self.current_flos
        if self.args.world_size > 1:
            counted = self.runtime.sum(
                torch.tensor(float(counted), dtype=torch.float64, device=self.runtime.device)
            ).item()
        self.state.total_flos += float(counted)
        self.current_flos = 0


def _write_sorted(path: Path, values: Mapping[str, Any]) -> None:
    replace_bytes(path, json.dumps(dict(values), indent=4, sort_keys=True).encode("utf-8"))
