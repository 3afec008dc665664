"""Checkpoints of the Trainer: the files of Transformers, published whole or not at all, with nothing unpickled."""
