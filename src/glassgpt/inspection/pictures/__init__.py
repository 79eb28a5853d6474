"""Pictures of what was found, as matplotlib figures: readable in print, by the colour-blind, at 4 tokens and at 200."""

from glassgpt.inspection.pictures.attention import attention_grid, attention_map
from glassgpt.inspection.pictures.lens import lens_heatmap
from glassgpt.inspection.pictures.sampling import sampling_plot
from glassgpt.inspection.pictures.text import surprise_text
from glassgpt.inspection.pictures.vectors import embedding_plot, position_plane, position_plot

__all__ = [
    "attention_grid",
    "attention_map",
    "embedding_plot",
    "lens_heatmap",
    "position_plane",
    "position_plot",
    "sampling_plot",
    "surprise_text",
]
