"""A tokenizer that exists."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from instar.config import Config, PathText
from instar.data.tokenizer.base import Tokenizer
from instar.data.tokenizer.trained import Texts


class FromFolder(Config):
    """A folder with tokenizer.json, with vocab.txt, or with vocab.json and merges.txt; a checkpoint is one."""

    kind: Literal["from_folder"] = "from_folder"
    path: PathText = Field(alias="from")
    """The folder."""

    def build(self, texts: Texts) -> Tokenizer:  # noqa: ARG002 (every kind is built from texts; this one is read)
        return Tokenizer.load(Path(self.path))
