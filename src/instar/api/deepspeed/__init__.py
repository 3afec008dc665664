"""A DeepSpeed configuration, honoured by its meaning: what it asks for, done by PyTorch's FSDP2 and our own parts.

Every mapping is said once in the log. A key that has no equivalent is refused with the reason, all of them together.
`"auto"` leaves a value to the arguments; a value that contradicts one that the arguments were given is a fault.
"""

from instar.api.deepspeed.keys import REFUSED
from instar.api.deepspeed.plan import DeepSpeedPlan
from instar.api.deepspeed.rules import apply, read

__all__ = ["REFUSED", "DeepSpeedPlan", "apply", "read"]
