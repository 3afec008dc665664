"""What a DeepSpeed configuration means, and a reader that leaves no key of it unread."""

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from typing import TYPE_CHECKING, Any

from instar.api.arguments.faults import Fault, guess, shown, wanted

if TYPE_CHECKING:
    from instar.api.arguments.flat import TrainingArguments

AUTO = "auto"


@dataclass
class DeepSpeedPlan:
    """What a DeepSpeed configuration means here; `zero_stage` 0 is DDP, 1 to 3 are FSDP2."""

    zero_stage: int = 0
    is_offloaded: bool = False
    tp: int = 1
    values: dict[str, Any] = field(default_factory=dict)
    """Arguments that the configuration decides, by field."""
    said: list[str] = field(default_factory=list)
    """One line for each mapping."""
    faults: list[Fault] = field(default_factory=list)


class Block:
    """A mapping of the configuration whose keys are taken one by one; those that are left have no equivalent."""

    def __init__(
        self, path: str, values: Mapping[str, Any], plan: DeepSpeedPlan, arguments: "TrainingArguments"
    ) -> None:
        self.path, self.plan, self.arguments = path, plan, arguments
        self._left = dict(values)
        self._known: list[str] = []

    def take(self, key: str) -> Any:
        """The value of a key, None where it is absent or null."""
        self._known.append(key)
        return self._left.pop(key, None)

    def block(self, key: str) -> "Block":
        """The mapping under a key, empty where there is none."""
        value = self.take(key)
        if value is not None and not isinstance(value, Mapping):
            self.fault(key, wanted("a mapping", value))
            value = None
        return Block(f"{self.path}.{key}", value or {}, self.plan, self.arguments)

    def decide(self, key: str, name: str, value: Any) -> None:
        """Let the configuration decide an argument, unless the arguments were given something else."""
        if value is None or value == AUTO:
            return
        now = self.arguments.__dict__[name]
        if now == value:
            return
        if now != _default(self.arguments, name):
            text = f"is {value!r}, and {name}={now!r} is given as well; write 'auto' here, or make them equal"
            self.fault(key, text)
            return
        self.plan.values[name] = value
        self.say(key, f"{name}={value!r}")

    def say(self, key: str, means: str) -> None:
        """One line of the log for one mapping."""
        self.plan.said.append(f"{self.path}.{key} means {means}")

    def fault(self, key: str, text: str) -> None:
        self.plan.faults.append(Fault(f"{self.path}.{key}", text))

    def skip(self, keys: tuple[str, ...], why: str) -> None:
        """Keys that ask for nothing that instar does not do in any case."""
        found = [key for key in keys if self.take(key) not in (None, AUTO)]
        if found:
            self.plan.said.append(f"{self.path}: {', '.join(found)}: {why}")

    def end(self, reasons: Mapping[str, str] | None = None) -> None:
        """Refuse what is left and asks for something."""
        reasons = reasons or {}
        for key, value in self._left.items():
            if key in reasons and not _asks(value):
                continue
            known = [*self._known, *reasons]
            self.fault(key, f"{reasons.get(key) or 'has no equivalent' + guess(key, known)}; got {shown(value)}")


def _asks(value: Any) -> bool:
    """Whether a value switches something on."""
    if isinstance(value, Mapping):
        return bool(value.get("enabled", bool(value)))
    return value is True or value not in (None, False, -1, 0, 1, "", AUTO)


def _default(arguments: Any, name: str) -> Any:
    found = {entry.name: entry.default for entry in fields(arguments)}.get(name, MISSING)
    return None if found is MISSING else found
