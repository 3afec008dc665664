"""What is wrong with arguments, field by field."""

from typing import Any

import pytest

from instar.api.arguments import (
    ArgumentError,
    TrainingArguments,
)


def faults(**values: Any) -> dict[str, str]:
    with pytest.raises(ArgumentError) as caught:
        TrainingArguments("out", **values)
    return {fault.field: fault.text for fault in caught.value.faults}
