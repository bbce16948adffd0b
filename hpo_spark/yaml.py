"""YAML as its users expect it: 1e-4 is a number, ``on`` is a word, and a key stands once."""

from __future__ import annotations

import re
from collections.abc import Hashable, Mapping
from typing import Any

import yaml

from hpo_spark.errors import ConfigError

__all__ = ["dump", "load", "load_with_lines"]

Path = tuple[str | int, ...]


class _Loader(yaml.SafeLoader):
    """PyYAML's loader with the scalars of YAML 1.2's core schema."""


# Tag, pattern, and the characters that such a scalar can begin with; the empty scalar is null.
_RESOLVERS = (
    ("bool", r"true|True|TRUE|false|False|FALSE", [*"tTfF"]),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", [*"-+0123456789"]),
    (
        "float",
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        [*"-+.0123456789"],
    ),
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("merge", r"<<", ["<"]),
)


class _Dumper(yaml.SafeDumper):
    """PyYAML's writer, which also quotes what only YAML 1.2 reads as a number."""


_Loader.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in _RESOLVERS:
    for _class in (_Loader, _Dumper):
        _class.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(rf"^(?:{_pattern})$"), _first)


def _construct_int(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> int:
    text = node.value
    # YAML 1.1 reads 010 as octal and 1:30 as base 60; here only 0o10 and 0x8 are not decimal.
    return int(text, 0) if text[:2] in ("0o", "0x") else int(text)


_Loader.add_constructor("tag:yaml.org,2002:int", _construct_int)


def load(text: str, source: str = "YAML") -> Any:
    """Read YAML text.

    Raises:
        ConfigError: If it is not YAML, or a key stands twice in a mapping; tells where.
    """
    return load_with_lines(text, source)[0]


def load_with_lines(text: str, source: str) -> tuple[Any, dict[Path, int]]:
    """Read YAML text, and tell for the path of each value the line that it begins in, counted from 1."""
    lines: dict[Path, int] = {}
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is None:
            return None, lines
        _visit(node, (), lines, source, text)
        return loader.construct_document(node), lines
    except RecursionError:
        raise ConfigError(f"{source}: an alias contains itself.") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f", line {mark.line + 1}" if mark else ""
        raise ConfigError(f"{source}{where}: is not valid YAML: {error.problem}.") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{source}: is not valid YAML: {error}.") from None


def _visit(node: yaml.Node, path: Path, lines: dict[Path, int], source: str, text: str) -> None:
    lines.setdefault(path, node.start_mark.line + 1)
    if isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            _visit(item, (*path, index), lines, source, text)
    if isinstance(node, yaml.MappingNode):
        first: dict[Hashable, yaml.Node] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise ConfigError(
                    f"{source}, line {key.start_mark.line + 1}: a key must be a word, not a list or a mapping."
                )
            if key.value in first and key.tag != "tag:yaml.org,2002:merge":
                other = first[key.value]
                raise ConfigError(
                    f"{source}, line {key.start_mark.line + 1}: the key {key.value!r} stands twice: "
                    f"{_excerpt(other, text)} in line {other.start_mark.line + 1}, and {_excerpt(value, text)} here."
                )
            first[key.value] = value
            inner = (*path, str(key.value))
            lines[inner] = key.start_mark.line + 1
            _visit(value, inner, lines, source, text)


def _excerpt(node: yaml.Node, text: str) -> str:
    return " ".join(text[node.start_mark.index : node.end_mark.index].split())


def dump(data: Mapping[str, Any]) -> str:
    """Write YAML text, keys in their order."""
    text: str = yaml.dump(
        dict(data), Dumper=_Dumper, sort_keys=False, allow_unicode=True, default_flow_style=None, width=100
    )
    return text
