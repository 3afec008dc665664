"""The words and marks of a talk, as the makers of a model wrote them down with its tokenizer."""

from collections.abc import Mapping, Sequence

from instar.core.child_process import LimitError, in_child
from instar.core.errors import DataError
from instar.data.tokenizer.base import Tokenizer
from instar.data.tokenizer.fast import FastCodec


class ChatTemplate:
    """A tokenizer's own template; Transformers renders it, in a sandbox of Jinja's and in a limited child process."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        """ValueError for a tokenizer without a template."""
        from tokenizers import Tokenizer as Backend
        from transformers import PreTrainedTokenizerFast
        from transformers.utils import chat_template_utils  # noqa: F401  imported here, not again in each child

        if tokenizer.chat_template is None or not isinstance(tokenizer.codec, FastCodec):
            raise ValueError("this tokenizer has no chat template")
        backend = Backend.from_str(tokenizer.codec.text)
        named = {f"{name}_token": text for name, text in tokenizer.specials.named().items()}
        self._marks = [token.content for token in backend.get_added_tokens_decoder().values() if token.special]
        self._theirs = PreTrainedTokenizerFast(
            tokenizer_object=backend, chat_template=tokenizer.chat_template, clean_up_tokenization_spaces=False, **named
        )

    def must_be_plain(self, text: str) -> None:
        """DataError for a text that writes out one of the marks: it would become the mark."""
        mark = next((mark for mark in self._marks if mark in text), None)
        if mark is not None:
            raise DataError(f"the message holds {mark}, which is one of this model's marks; write it otherwise")

    def ids(self, messages: Sequence[Mapping[str, str]]) -> list[int]:
        """Tokens of a talk (each message has a role and a content) up to where the model's answer begins.

        DataError where the template refuses it, or needs more time or memory than a child process may use.
        """

        def rendered() -> str:
            return str(self._theirs.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=True))

        try:
            text = in_child(rendered)
        except LimitError as error:
            raise DataError(f"the chat template refuses this talk: {error}") from None
        return [int(number) for number in self._theirs.encode(text, add_special_tokens=False)]
