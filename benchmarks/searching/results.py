"""Results as JSON: a row for each method, problem and seed, with what made it, so that a later run need not."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["Record", "Row", "read", "write"]

# What a part keeps of a run: a list of figures, or of lists.
Row = list[Any]


@dataclass
class Record:
    """What is known of one method.

    Attributes:
        made_with: Versions of the libraries that it used.
        code: Fingerprint of the code.
        settings: What else its rows depend on.
        rows: By problem and seed.
    """

    made_with: dict[str, str]
    code: str
    settings: dict[str, Any]
    rows: dict[str, dict[int, Row]] = field(default_factory=dict)

    def is_like(self, other: Record) -> bool:
        """Whether rows of the two may stand beside each other."""
        return (self.made_with, self.code, self.settings) == (other.made_with, other.code, other.settings)


def read(path: Path) -> dict[str, Record]:
    """The records of a file, by method; none where there is no file."""
    if not path.exists():
        return {}
    return {
        name: Record(
            record["made_with"],
            record["code"],
            record["settings"],
            {problem: {int(seed): row for seed, row in rows.items()} for problem, rows in record["rows"].items()},
        )
        for name, record in json.loads(path.read_text()).items()
    }


def write(path: Path, records: Mapping[str, Record]) -> None:
    """Keep the records that have rows, a line a problem, so that versions of the file can be compared."""
    blocks = []
    for name, record in sorted((name, record) for name, record in records.items() if record.rows):
        lines = ",\n".join(
            f"   {json.dumps(problem)}: {json.dumps(dict(sorted(rows.items())))}"
            for problem, rows in sorted(record.rows.items())
        )
        head = "".join(
            f'  "{key}": {json.dumps(value)},\n'
            for key, value in (("made_with", record.made_with), ("code", record.code), ("settings", record.settings))
        )
        blocks.append(f' {json.dumps(name)}: {{\n{head}  "rows": {{\n{lines}\n  }}\n }}')
    path.parent.mkdir(parents=True, exist_ok=True)
    # A run that is interrupted leaves the whole of the last file.
    draft = path.with_suffix(".part")
    draft.write_text("{\n" + ",\n".join(blocks) + "\n}\n")
    draft.replace(path)
