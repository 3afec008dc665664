"""Whole checkpoints or none: published, verified, rotated, locked, traced; safetensors and JSON only.

Every change to the disk ends in a function of `os` (`mkdir`, `rename`, `fsync`, `unlink`, `rmdir`)
or in `open`, so a test can stop a process before each of them.
"""
