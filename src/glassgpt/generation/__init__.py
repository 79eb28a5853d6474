"""Writing text with a model: filters, samplers, the token iterator, the text stream."""

from glassgpt.generation.config import SamplingConfig

__all__ = ["SamplingConfig"]
