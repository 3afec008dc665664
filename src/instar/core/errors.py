"""What can go wrong, as one tree. Each error knows the exit code of the command that meets it.

InstarError                  70  an internal fault
├── UsageError                2  a wrong command line
│   └── ConfigError           2  a run file with faults, all of them listed
├── DataError                65  data that cannot be used
├── CheckpointError          65  a damaged checkpoint, or one that does not fit
├── InputMissingError        66  a file or folder that is not there
├── TrainingError            70  training cannot go on
│   └── NonFiniteError       70  the loss or the gradient is not a number
├── ResourceError           71  a limit of the system: open files, memory, threads
├── OutputError              73  the output folder is held by another run, or not writable
├── DiskError                74  the disk is full or failing
├── PreemptedError           75  asked to leave (SIGTERM): saved, resume me
└── InterruptedRunError     130  asked to leave by the user (SIGINT): saved
"""

from collections.abc import Sequence
from typing import ClassVar


class InstarError(Exception):
    """Base of every error that instar raises on purpose; the text is meant for the user."""

    exit_code: ClassVar[int] = 70


class UsageError(InstarError):
    """The command line asks for something that cannot be done."""

    exit_code = 2


class ConfigError(UsageError):
    """A run file with faults; `problems` holds one line for each, all found at once."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))


class DataError(InstarError):
    """Data that cannot be used as it is; names the file and the line."""

    exit_code = 65


class CheckpointError(InstarError):
    """A checkpoint that is damaged, foreign, or does not fit what is to be done with it."""

    exit_code = 65


class InputMissingError(InstarError):
    """An input file or folder that does not exist or cannot be read."""

    exit_code = 66


class TrainingError(InstarError):
    """Training cannot go on."""


class NonFiniteError(TrainingError):
    """A loss or gradient stopped being a number; names the step and its samples."""


class ResourceError(InstarError):
    """The system gave no more of something: open files, memory, threads; says which limit, and how to raise it."""

    exit_code = 71


class OutputError(InstarError):
    """The output folder is held by another run, holds another run, or is not writable."""

    exit_code = 73


class DiskError(InstarError):
    """A write failed: the disk is full or failing; says what is still whole."""

    exit_code = 74


class PreemptedError(InstarError):
    """SIGTERM came; the step was finished and saved, and the same command resumes."""

    exit_code = 75


class InterruptedRunError(InstarError):
    """SIGINT came; the step was finished and saved, and the same command resumes."""

    exit_code = 130
