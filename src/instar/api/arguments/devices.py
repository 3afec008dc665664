"""Where this process runs and which of how many it is."""

import contextlib
import logging
import math
import os
from collections.abc import Iterator
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING

from instar.api.arguments.choices import ParallelMode

if TYPE_CHECKING:
    import torch

_LEVELS = {
    "detail": logging.DEBUG,
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
    "critical": logging.CRITICAL,
}
_log = logging.getLogger(__name__)


class Devices:
    """The device, the ranks, and what follows from them."""

    if TYPE_CHECKING:
        use_cpu: bool
        ddp_backend: str | None
        ddp_timeout: int
        per_device_train_batch_size: int
        per_device_eval_batch_size: int
        log_level: str
        log_level_replica: str
        log_on_each_node: bool
        save_on_each_node: bool
        warmup_steps: float

    _n_gpu: int

    @property
    def train_batch_size(self) -> int:
        """Samples in a micro-batch of this process."""
        return self.per_device_train_batch_size * max(1, self.n_gpu)

    @property
    def eval_batch_size(self) -> int:
        """Samples in an evaluation batch of this process."""
        return self.per_device_eval_batch_size * max(1, self.n_gpu)

    @property
    def ddp_timeout_delta(self) -> timedelta:
        """How long a process waits for the others."""
        return timedelta(seconds=self.ddp_timeout)

    @property
    def device(self) -> "torch.device":
        """The device of this process."""
        return self._setup_devices

    @cached_property
    def _setup_devices(self) -> "torch.device":
        """Choose the device, and join the other processes where a launcher started several."""
        import torch

        device = self._choose_device()
        self._n_gpu = int(device.type == "cuda")
        if device.type == "cuda":
            torch.cuda.set_device(device)
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            from instar.api.arguments.parallelism import parallel_of
            from instar.trainer.parallel.processes import Processes

            Processes.join(parallel_of(self), device)  # type: ignore[arg-type]
        return device

    def _choose_device(self) -> "torch.device":
        import torch

        if self.use_cpu or os.environ.get("ACCELERATE_USE_CPU", "false").lower() in ("1", "true", "yes", "y"):
            return torch.device("cpu")
        found = torch.accelerator.current_accelerator(check_available=True)
        if found is None:
            return torch.device(os.environ.get("ACCELERATE_TORCH_DEVICE", "cpu"))
        count = torch.accelerator.device_count()
        if count > 1 and "LOCAL_RANK" not in os.environ:
            _log.warning(
                "%d devices are here and a process uses one: start the script with `torchrun --nproc_per_node %d`",
                count,
                count,
            )
        return torch.device(found.type if found.type == "mps" else f"{found.type}:{os.environ.get('LOCAL_RANK', '0')}")

    @property
    def n_gpu(self) -> int:
        """GPUs of this process: one, or none."""
        if not hasattr(self, "_n_gpu"):
            _ = self._setup_devices
        return self._n_gpu

    @property
    def parallel_mode(self) -> ParallelMode:
        """Over what the run is spread."""
        if self.world_size > 1:
            return ParallelMode.DISTRIBUTED
        return ParallelMode.NOT_DISTRIBUTED if self.n_gpu > 1 else ParallelMode.NOT_PARALLEL

    @property
    def world_size(self) -> int:
        """Processes of the run."""
        from instar.trainer.parallel import group

        return group.world_size() if group.is_open() else int(os.environ.get("WORLD_SIZE", "1"))

    @property
    def process_index(self) -> int:
        """This process's number among all."""
        from instar.trainer.parallel import group

        return group.rank() if group.is_open() else int(os.environ.get("RANK", "0"))

    @property
    def local_process_index(self) -> int:
        """This process's number among those of its machine."""
        return int(os.environ.get("LOCAL_RANK", "0"))

    @property
    def should_log(self) -> bool:
        """Whether this process logs."""
        return (self.local_process_index if self.log_on_each_node else self.process_index) == 0

    @property
    def should_save(self) -> bool:
        """Whether this process writes files."""
        return (self.local_process_index if self.save_on_each_node else self.process_index) == 0

    @property
    def place_model_on_device(self) -> bool | None:
        """For subclasses that move the model themselves; None leaves it to the trainer."""
        return None

    def get_process_log_level(self) -> int:
        """The log level of this process, as a number of the logging module."""
        level = self.log_level if self.should_log else self.log_level_replica
        return _LEVELS.get(level, logging.getLogger("transformers").getEffectiveLevel())

    def get_warmup_steps(self, num_training_steps: int) -> int:
        """Steps of warm-up in a run of that many."""
        warmup = self.warmup_steps
        return int(warmup) if warmup >= 1 else math.ceil(num_training_steps * warmup)

    @contextlib.contextmanager
    def main_process_first(self, local: bool = True, desc: str = "work") -> Iterator[None]:
        """The others wait until the main process (of each machine, if `local`) has done what is inside."""
        if self.world_size == 1:
            yield
            return
        from instar.trainer.parallel import group

        is_first = (self.local_process_index if local else self.process_index) == 0
        _ = self._setup_devices
        if not is_first:
            _log.debug("process %d waits for the main one: %s", self.process_index, desc)
            group.wait_for_all()
        try:
            yield
        finally:
            if is_first:
                group.wait_for_all()
