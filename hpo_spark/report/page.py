"""A page that needs nothing but itself: text, tables, and plots with the library that draws them.

The library and the plots are compressed, and the browser unpacks them. What the page may do is fixed by hashes: only
its own two scripts run, whatever a name or a message in it says, and nothing is fetched. Plotly draws three dimensions
with functions that it compiles, for which ``unsafe-eval`` is there; no text of the page comes near them.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any

from hpo_spark.errors import MissingExtra

__all__ = ["Block", "Plot", "Problem", "Section", "Source", "Table", "Text", "render"]


@dataclass(frozen=True)
class Text:
    """A paragraph."""

    text: str
    kind: str = "text"


@dataclass(frozen=True)
class Problem:
    """Why something is missing here."""

    text: str
    kind: str = "problem"


@dataclass(frozen=True)
class Source:
    """Lines to be read, or copied, as they are."""

    text: str
    kind: str = "source"


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        headers: One a column; empty for a table of facts, whose first column says what each is.
        rows: Cells as text.
        title: What it shows; None where its section says it.
    """

    headers: Sequence[str]
    rows: Sequence[Sequence[str]]
    title: str | None = None
    kind: str = "table"


@dataclass(frozen=True)
class Plot:
    """A plot.

    Attributes:
        json: Plotly's figure.
        height: In pixels.
        min_width: Below which it cannot be read, in pixels; 0 where any width will do.
        title: What it shows; None where its section says it.
    """

    json: str = field(repr=False)
    height: int
    min_width: int = 0
    title: str | None = None
    kind: str = "plot"

    @classmethod
    def of(cls, figure: Any, title: str | None = None) -> Plot:
        """A figure that `hpo_spark.report.plots.dressed` has made ready."""
        layout = figure.layout
        return cls(figure.to_json(), int(layout.height), int(layout.meta["min_width"]), title)


Block = Text | Problem | Source | Table | Plot


@dataclass(frozen=True)
class Section:
    """A part of a page.

    Attributes:
        name: Of its anchor.
        title: Its heading.
        blocks: What it holds.
    """

    name: str
    title: str
    blocks: list[Block] = field(default_factory=list)


def render(title: str, subtitle: str, sections: Sequence[Section], reload_s: float | None = None) -> bytes:
    """The page as the content of an HTML file.

    Args:
        title, subtitle: Its heading, and a line below.
        sections: Its parts.
        reload_s: Seconds after which it loads itself again; None for never.

    Raises:
        MissingExtra: If jinja2 or Plotly is not installed.
    """
    plots = [block for section in sections for block in section.blocks if isinstance(block, Plot)]
    library, library_hash = _library() if plots else ("", "")
    script = _resource("page.js")
    html: str = _template().render(
        title=title,
        subtitle=subtitle,
        sections=sections,
        reload_s=reload_s,
        style=_resource("page.css"),
        script=script,
        library=library,
        hashes=[_hash(script), *([library_hash] if plots else [])],
        places={id(plot): f"plot-{place}" for place, plot in enumerate(plots)},
        figures=_packed("[" + ",".join(plot.json for plot in plots) + "]") if plots else "",
    )
    return html.encode(errors="backslashreplace")  # half a surrogate pair, as file names may hold it


def _template() -> Any:
    try:
        import jinja2
        import markupsafe
    except ImportError as error:
        raise MissingExtra("The report", "jinja2", "report") from error
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["raw"] = markupsafe.Markup  # for our own style and script alone
    environment.filters["id"] = id
    return environment.from_string(_resource("page.html"))


@cache
def _library() -> tuple[str, str]:
    """Plotly's library, packed, and the hash by which a browser knows it."""
    try:
        from plotly.offline import get_plotlyjs
    except ImportError as error:
        raise MissingExtra("The report", "plotly", "report") from error
    library = get_plotlyjs()
    return _packed(library), _hash(library)


def _resource(name: str) -> str:
    return files("hpo_spark.report").joinpath("templates", name).read_text(encoding="utf-8")


def _packed(text: str) -> str:
    content = gzip.compress(text.encode(errors="backslashreplace"), compresslevel=6, mtime=0)
    return base64.b64encode(content).decode()


def _hash(script: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
