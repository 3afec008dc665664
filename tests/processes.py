"""Child processes of tests, started as a person's shell would start them."""

import signal
import subprocess
from typing import Any


def start(command: list[str], **options: Any) -> "subprocess.Popen[Any]":
    """Start a command that an interrupt reaches.

    A suite that runs in the background ignores interrupts, and its children would inherit that.
    """
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)
    finally:
        signal.signal(signal.SIGINT, before)
