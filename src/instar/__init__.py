"""instar carries one transformer language model through its whole life."""

__version__ = "0.1.0"

__all__ = ["__version__"]
