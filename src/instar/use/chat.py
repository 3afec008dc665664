"""`chat`: a conversation with a causal language model."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from instar.core.errors import DataError, UsageError
from instar.data.tokenizer import ChatTemplate
from instar.inference.generate import Generator, OnText
from instar.task import CausalLM
from instar.use.external import take_up_any
from instar.use.generate import Log, decoding_of, generator_of
from instar.use.writing import must_be_text

PLAIN = "{message}\n"
"""A turn where neither the person nor the tokenizer defines one."""


class Turns(Protocol):
    """How a conversation becomes a prompt."""

    def prompt(self, message: str) -> str | list[int]:
        """What the answer to a message follows; the message belongs to the conversation only when `keep` is called."""
        ...

    def keep(self, message: str, answer: str) -> None:
        """Add a message and its answer to the conversation."""
        ...


class Plain:
    """One text that grows; its beginning is cut off where it is too long."""

    def __init__(self, template: str) -> None:
        if "{message}" not in template:
            raise UsageError(f"--template: wanted a text with {{message}} in it; got {template!r}")
        self.template = template
        self.history = ""

    def prompt(self, message: str) -> str:
        return self.history + self.template.replace("{message}", message)

    def keep(self, message: str, answer: str) -> None:
        self.history = f"{self.prompt(message)}{answer}\n"


class Templated:
    """Messages with roles; whole turns are left out, the oldest first, where the conversation is too long."""

    def __init__(self, template: ChatTemplate, system: str | None, room: int, log: Log) -> None:
        self.template = template
        self.system = [] if system is None else [{"role": "system", "content": system}]
        self.turns: list[tuple[str, str]] = []
        self.room = room
        self.log = log
        self._is_told = False

    def prompt(self, message: str) -> list[int]:
        """DataError for a message that holds a special token of the template, or is too long by itself."""
        self.template.must_be_plain(message)
        while True:
            ids = self.template.ids(self._messages(message))
            if len(ids) <= self.room:
                return ids
            if not self.turns:
                raise DataError(
                    f"the message makes a prompt of {len(ids):,} tokens, and the model takes {self.room:,}; shorten it"
                )
            self.turns.pop(0)
            if not self._is_told:
                self._is_told = True
                self.log(f"chat: the conversation is longer than {self.room:,} tokens; its oldest turns are left out")

    def keep(self, message: str, answer: str) -> None:
        self.turns.append((message, answer))

    def _messages(self, message: str) -> list[dict[str, str]]:
        messages = [
            {"role": role, "content": content}
            for turn in self.turns
            for role, content in zip(("user", "assistant"), turn, strict=True)
        ]
        return [*self.system, *messages, {"role": "user", "content": message}]


class Chat:
    """A conversation: what was said so far is the prompt of the next answer."""

    def __init__(
        self, folder: Path, overrides: Sequence[str], *, template: str | None, system: str | None, log: Log
    ) -> None:
        """`template` is the text of a turn, with {message} where the person's words go and the answer after it.

        None: the tokenizer's own chat template where it has one, else the words and a line's end. `system` is what
        system message, for a chat template alone. `log` gets which of them it is.
        """
        decoding = decoding_of(overrides)
        ready = take_up_any(folder, CausalLM)
        self._generator: Generator = generator_of(ready, decoding, log)
        self._count = 0
        self._turns: Turns
        if template is None and ready.tokenizer.chat_template is not None:
            log("chat: turns are written by the tokenizer's own chat template")
            self._turns = Templated(ChatTemplate(ready.tokenizer), system, self._generator.room, log)
            return
        if system is not None:
            raise UsageError("--system: wanted a model with a chat template of its own, and no --template")
        self._turns = Plain(template or PLAIN)
        if template is None:
            log("chat: the tokenizer has no chat template; a turn is a line (--template sets another)")

    def answer(self, message: str, on_text: OnText) -> dict[str, Any]:
        """The model's reply to a message, handed out as it is written, and kept as part of the conversation."""
        must_be_text(message, "the message")
        row = self._generator.stream(self._turns.prompt(message), on_text, number=self._count)
        self._turns.keep(message, row["text"])
        self._count += 1
        return {"message": message, **row}
