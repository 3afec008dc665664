"""Every block of the page about data works."""

import re
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from instar.data.config import DataConfig

PAGE = Path(__file__).parents[2] / "docs" / "data.md"
BLOCKS = re.findall(r"^```(yaml|python)\n(.*?)^```", PAGE.read_text(), flags=re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize(("language", "block"), BLOCKS)
def test_block(language: str, block: str) -> None:
    if language == "python":
        exec(compile(block, str(PAGE), "exec"), {})
        return
    config = DataConfig.model_validate(YAML(typ="safe").load(block))
    assert next(config.train.documents()).text
