"""Sources, tokenizers, the token cache, and streams of packed batches."""

from instar.data.batch import Batch
from instar.data.cache import TokenCache, build_cache
from instar.data.config import DataConfig, Split
from instar.data.document import Document
from instar.data.permutation import permute
from instar.data.prefetch import Prefetch
from instar.data.samples import Cut, Samples
from instar.data.source import Source
from instar.data.stream import Stream
from instar.data.tokenizer import Encoded, Tokenizer, TokenizerConfig, build_tokenizer

__all__ = [
    "Batch",
    "Cut",
    "DataConfig",
    "Document",
    "Encoded",
    "Prefetch",
    "Samples",
    "Source",
    "Split",
    "Stream",
    "TokenCache",
    "Tokenizer",
    "TokenizerConfig",
    "build_cache",
    "build_tokenizer",
    "permute",
]
