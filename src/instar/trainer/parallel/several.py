"""What every way to run on several processes has."""

from typing import Annotated, Literal

from pydantic import Field

from instar.config import Config

Backend = Literal["auto", "gloo", "nccl", "ccl", "mpi", "hccl", "cncl", "mccl", "xccl", "ucc"]


class Several(Config):
    """Who shares a layer, and how processes talk."""

    tp: Annotated[int, Field(ge=1)] = 1
    """Processes that each hold a part of every layer's matrices (tensor parallel); the others share the data."""
    backend: Backend = "auto"
    """How processes talk; auto: NCCL for GPUs, Gloo for CPUs."""
    timeout: Annotated[float, Field(gt=0)] = 30.0
    """Minutes until a process that waits for another gives up."""
