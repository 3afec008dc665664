"""Where this process runs and which of how many it is."""

import contextlib
import logging
import os
from collections.abc import Iterator
from functools import cached_property
from typing import TYPE_CHECKING

from transformers.training_args import ParallelMode

from instar.core.launcher import device_index, launched

if TYPE_CHECKING:
    import torch

_log = logging.getLogger(__name__)


class Devices:
    """The device, the ranks, and what follows from them."""

    if TYPE_CHECKING:
        use_cpu: bool
        n_gpu: int

    _n_gpu: int

    @property
    def device(self) -> "torch.device":
        """The device of this process; asked for in each step, so without Transformers' check of what is installed."""
        return self._setup_devices

    @cached_property
    def _setup_devices(self) -> "torch.device":
        """Choose the device, and join the other processes where a launcher started several."""
        import torch

        device = self._choose_device()
        self._n_gpu = int(device.type == "cuda")
        if device.type == "cuda":
            torch.cuda.set_device(device)
        if launched().world_size > 1:
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
        place = launched()
        if count > 1 and place.world_size == 1 and place.local_rank is None:
            _log.warning(
                "%d devices are here and a process uses one: start the script with `torchrun --nproc_per_node %d`",
                count,
                count,
            )
        return torch.device(found.type if found.type == "mps" else f"{found.type}:{device_index(place, count)}")

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

        return group.world_size() if group.is_open() else launched().world_size

    @property
    def process_index(self) -> int:
        """This process's number among all."""
        from instar.trainer.parallel import group

        return group.rank() if group.is_open() else launched().rank

    @property
    def local_process_index(self) -> int:
        """This process's number among those of its machine."""
        return launched().local_rank or 0

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
