"""The plot: regret against evaluations, a line a method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt

__all__ = ["draw"]

_DASHES = ("-", "--", ":")


def draw(path: Path, checkpoints: Sequence[int], curves: Mapping[str, Sequence[float]], title: str, label: str) -> None:
    """Draw curves into a PNG, the first one bold; the legend is in the order in which they end.

    Args:
        path: Where it goes.
        checkpoints: Evaluations.
        curves: For each method a figure above 0 for each checkpoint, or for the first few.
        title: What is shown.
        label: Of the vertical axis, which is logarithmic.
    """
    figure, axes = plt.subplots(figsize=(9, 6), layout="constrained")
    colours = plt.get_cmap("tab10").colors  # type: ignore[attr-defined]
    styles = {
        name: (colours[place % len(colours)], _DASHES[place // len(colours) % len(_DASHES)])
        for place, name in enumerate(curves)
    }
    main = next(iter(curves))
    for name in sorted(curves, key=lambda name: curves[name][-1], reverse=True):
        colour, dash = styles[name]
        points = checkpoints[: len(curves[name])]
        axes.plot(points, curves[name], dash, color=colour, label=name, linewidth=3.5 if name == main else 1.5)
    axes.set_yscale("log")
    axes.set_xlabel("evaluations")
    axes.set_ylabel(label)
    axes.set_title(title)
    axes.grid(visible=True, which="both", alpha=0.3)
    axes.legend(fontsize="small", loc="center left", bbox_to_anchor=(1.01, 0.5))
    figure.savefig(path, dpi=120)
    plt.close(figure)
