"""The flat view of a conditional space, for libraries that know no conditions.

Every parameter is always there: one that is not active stands at the middle of its range, `SearchSpace.encode` puts
its gene there, and what a library proposes for it is dropped by `SearchSpace.decode`.
"""

from __future__ import annotations

import logging

from hpo_spark.space import SearchSpace

__all__ = ["say_flat"]

logger = logging.getLogger(__name__)


def say_flat(searcher: str, space: SearchSpace) -> None:
    """Log that a searcher sees a conditional space flat; nothing for a space without conditions."""
    if conditional := [name for name in space if space[name].when]:
        logger.warning(
            "searcher %r: its library knows no conditions, so it sees %s at the middle of the range where not active",
            searcher,
            ", ".join(conditional),
        )
