"""The run folder: what training writes, and the one door through which everything else gets a trained model."""

from glassgpt.runs.folder import RunFolder, read_metrics, read_summary, reserve
from glassgpt.runs.run import Run, load

__all__ = ["Run", "RunFolder", "load", "read_metrics", "read_summary", "reserve"]
