"""Corpora by name, text from anywhere, and batches of tokens."""

from glassgpt.data.config import DataConfig

__all__ = ["DataConfig"]
