"""Names and values as text that a plot shows as it is.

Plotly reads a few tags of HTML and its entities in every text, and matplotlib reads formulas between dollar signs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

__all__ = ["for_matplotlib", "for_plotly", "short", "unique"]

_LONGEST = 22


def for_plotly(text: str) -> str:
    """Text that Plotly shows as it is: no tag, no entity, no field of a template, no formula."""
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return text.replace("%{", "&#37;{").replace("$", "&#36;")


def for_matplotlib(text: str) -> str:
    """Text that matplotlib shows as it is: no formula."""
    return text.replace("$", r"\$")


def short(text: str, longest: int = _LONGEST) -> str:
    """The text in one line, with its middle left out where it is too long for a plot."""
    text = " ".join("".join(character if character.isprintable() else " " for character in text).split())
    if len(text) <= longest:
        return text
    tail = longest // 3
    return f"{text[: longest - tail - 1]}…{text[-tail:]}"


def unique(texts: Mapping[str, str], escape: Callable[[str], str]) -> dict[str, str]:
    """A short label for each key, no two of them alike.

    Args:
        texts: What is to be shown, by keys.
        escape: Makes a text such that the plot shows it as it is.
    """
    labels: dict[str, str] = {}
    taken: set[str] = set()
    for key, text in texts.items():
        plain = escape(short(text)) or "(empty)"
        label, count = plain, 1
        while label in taken:
            count += 1
            label = f"{plain} ({count})"
        taken.add(label)
        labels[key] = label
    return labels
