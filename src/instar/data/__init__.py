"""Sources, tokenizers, the token cache, and streams of packed batches."""

from instar.data.batch import Batch

__all__ = ["Batch"]
