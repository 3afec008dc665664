"""`TrainingArguments`, in small themes joined into one flat class; old spellings; checks; JSON."""

from transformers.debug_utils import DebugOption
from transformers.trainer_utils import FSDPOption, HubStrategy, IntervalStrategy, SaveStrategy, SchedulerType
from transformers.training_args import OptimizerNames, ParallelMode

from instar.api.arguments.accelerator import AcceleratorConfig
from instar.api.arguments.faults import ArgumentError
from instar.api.arguments.flat import TrainingArguments
from instar.api.arguments.parallelism import parallel_of
from instar.api.arguments.seq2seq import Seq2SeqTrainingArguments
from instar.api.arguments.written import from_transformers

__all__ = [
    "AcceleratorConfig",
    "ArgumentError",
    "DebugOption",
    "FSDPOption",
    "HubStrategy",
    "IntervalStrategy",
    "OptimizerNames",
    "ParallelMode",
    "SaveStrategy",
    "SchedulerType",
    "Seq2SeqTrainingArguments",
    "TrainingArguments",
    "from_transformers",
    "parallel_of",
]
