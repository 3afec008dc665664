"""How much memory each stage of a Trainer's life took."""

import gc
import inspect
import threading
from collections.abc import MutableMapping
from importlib.util import find_spec
from typing import Any

import torch

_STAGES = {
    "__init__": "init",
    "train": "train",
    "_inner_training_loop": "train",
    "_finalize_training": "train",
    "evaluate": "eval",
    "predict": "test",
}
_SAMPLING_SECONDS = 0.001


class TrainerMemoryTracker:
    """Bytes of host (resident set) and GPU memory that construction, training, evaluation and prediction took.

    `{stage}_mem_{cpu|gpu}_alloc_delta` is what the stage kept, and may be negative; `..._peaked_delta` is what it
    used beyond that for a while. The host's peak is sampled every millisecond. Stages within stages (evaluation while
    training) count for the outer one. Does nothing when told to skip, or where psutil is not installed.
    """

    def __init__(self, skip_memory_metrics: bool = False) -> None:
        self.skip_memory_metrics = skip_memory_metrics or find_spec("psutil") is None
        self.cur_stage: str | None = None
        self.cpu: dict[str, dict[str, int]] = {}
        self.gpu: dict[str, dict[str, int]] = {}
        self._init_reported = False
        self._begin = (0, 0)
        self._watch: _Peak | None = None
        """Only within a stage: a thread cannot be pickled with the trainer."""

    def start(self, stage: str | None = None) -> None:
        """Begin a stage; without a name it is that of the calling method (`__init__`, `train`, ...)."""
        if self.skip_memory_metrics:
            return
        stage = stage or _calling_stage()
        if self.cur_stage not in (None, stage):
            return
        self.cur_stage = stage
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
            torch.cuda.empty_cache()
        self._begin = (_resident_bytes(), _gpu_bytes())
        if self._watch is not None:
            self._watch.stop()
        self._watch = _Peak()
        self._watch.start()

    def stop_and_update_metrics(
        self, metrics: MutableMapping[str, Any] | None = None, stage: str | None = None
    ) -> None:
        """End the stage, and put its figures (and once those of the construction) into `metrics`."""
        if self.skip_memory_metrics:
            return
        stage = stage or _calling_stage()
        if self.cur_stage != stage:
            return
        self._stop(stage)
        if metrics is not None:
            self._report(stage, metrics)

    def _stop(self, stage: str) -> None:
        gc.collect()
        peak = 0 if self._watch is None else self._watch.stop()
        self._watch = None
        cpu, gpu = _resident_bytes(), _gpu_bytes()
        begin_cpu, begin_gpu = self._begin
        self.cpu[stage] = {"begin": begin_cpu, "alloc": cpu - begin_cpu, "peaked": max(0, peak - cpu)}
        if torch.cuda.is_available():
            gpu_peak = torch.cuda.max_memory_allocated()
            torch.cuda.empty_cache()
            self.gpu[stage] = {"begin": begin_gpu, "alloc": gpu - begin_gpu, "peaked": max(0, gpu_peak - gpu)}
        self.cur_stage = None

    def _report(self, stage: str, metrics: MutableMapping[str, Any]) -> None:
        stages = [stage] if self._init_reported else ["init", stage]
        self._init_reported = True
        for kind, measured in (("cpu", self.cpu), ("gpu", self.gpu)):
            for name in stages:
                for what in ("alloc", "peaked"):
                    if name in measured:
                        metrics[f"{name}_mem_{kind}_{what}_delta"] = measured[name][what]
            if "init" in stages and "init" in measured:
                metrics[f"before_init_mem_{kind}"] = measured["init"]["begin"]


class _Peak:
    """The largest resident set seen from `start` until `stop`."""

    def __init__(self) -> None:
        self._peak = 0
        self._done = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        self._thread = threading.Thread(target=self._sample, name="instar-memory", daemon=True)
        self._thread.start()

    def _sample(self) -> None:
        while True:
            self._peak = max(self._peak, _resident_bytes())
            if self._done.wait(_SAMPLING_SECONDS):
                return

    def stop(self) -> int:
        if self._thread is not None:
            self._done.set()
            self._thread.join()
            self._thread = None
        return self._peak


def _calling_stage() -> str:
    frame = inspect.currentframe()
    while frame is not None:
        if frame.f_code.co_name in _STAGES and frame.f_globals.get("__name__") != __name__:
            return _STAGES[frame.f_code.co_name]
        frame = frame.f_back
    raise ValueError(f"memory is tracked within one of {', '.join(_STAGES)}, or a stage is to be named")


def _resident_bytes() -> int:
    import psutil

    return int(psutil.Process().memory_info().rss)


def _gpu_bytes() -> int:
    return torch.cuda.memory_allocated() if torch.cuda.is_available() else 0
