"""YAML 1.2 as DVC reads and writes it, so that a stage computes with the values that DVC records."""

import io
import math
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.constructor import ConstructorError, SafeConstructor
from ruamel.yaml.error import MarkedYAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode
from ruamel.yaml.scalarstring import DoubleQuotedScalarString
from ruamel.yaml.scanner import Scanner, ScannerError

from spacewarps.reading import read_bytes

# Far more than params can be, and little enough to be read in seconds.
MAX_BYTES = 1 << 17
MAX_VALUES = 100_000
MAX_DEPTH = 64
# Of a line, so that none is broken.
_ENDLESS = 2**31
# A text that is a text without quotes, but for words such as `null`.
_PLAIN = re.compile(r"[A-Za-z_/][A-Za-z0-9_./-]*")
_NULL = "tag:yaml.org,2002:null"


class NotYamlError(Exception):
    """A text is not YAML that can be used; the message is one line."""


def read_yaml(text: str) -> Any:
    """Return what ``text`` holds, each scalar as ``dvc.utils.serialize`` reads it.

    Raises:
        NotYamlError: it is not YAML, a name appears twice in one section, or aliases make it absurdly large.
    """
    yaml = YAML(typ="safe", pure=True)
    yaml.Scanner, yaml.Constructor = _Scanner, _Constructor
    try:
        with warnings.catch_warnings(action="ignore"):
            return yaml.load(text)
    except MarkedYAMLError as error:
        line = f" (line {error.problem_mark.line + 1})" if error.problem_mark else ""
        raise NotYamlError(", ".join(filter(None, [error.context, error.problem])) + line) from None
    except Exception as error:
        # A tag that does not fit its value, and lists nested too deep, give errors of nearly any kind.
        raise NotYamlError(" ".join(str(error).split())) from None


def read_yaml_file(path: Path) -> Any:
    """Return what the file ``path`` holds, as :func:`read_yaml` does.

    Raises:
        NotYamlError: as there.
        OSError: it cannot be read, or is larger than params can be.
        UnicodeDecodeError: it is not UTF-8.
    """
    return read_yaml(read_bytes(path, at_most=MAX_BYTES).decode("utf-8"))


def write_yaml(values: Any) -> str:
    """Return ``values`` as YAML that :func:`read_yaml` and DVC read as the same."""
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    stream = io.StringIO()
    yaml.dump(values, stream)
    return stream.getvalue()


def edit_yaml(text: str, section: str, values: Mapping[str, Any], above: Mapping[str, str]) -> str:
    """Return ``text`` with other ``values`` in one of its sections; all else, comments included, stays as it is.

    Args:
        text: what :func:`read_yaml` reads.
        section: the name of the section, which has a name for each of ``values``.
        values: the new ones.
        above: for some names, a comment that is written above them.

    Raises:
        NotYamlError: ``text`` is no YAML, or has no such section with such names.
    """
    there = read_yaml(text)
    found = there.get(section) if isinstance(there, dict) else None
    absent = [name for name in values if not isinstance(found, dict) or name not in found]
    if absent:
        raise NotYamlError(f"there is no {section}.{absent[0]}")
    yaml = YAML(typ="rt", pure=True)
    yaml.preserve_quotes = True
    yaml.width = _ENDLESS
    yaml.representer.add_representer(type(None), lambda dumper, _: dumper.represent_scalar(_NULL, "null"))
    document = yaml.load(text)
    for name, value in values.items():
        old = document[section][name]
        if value == old:
            continue
        new = _quoted(value)
        if isinstance(old, CommentedMap) and isinstance(value, Mapping) and value.keys() == old.keys():
            old.update(new)
        elif isinstance(old, CommentedSeq) and old and value:
            old[:] = new
        else:
            document[section][name] = new
    for name, comment in above.items():
        document[section].yaml_set_comment_before_after_key(name, before=comment, indent=2)
    stream = io.StringIO()
    yaml.dump(document, stream)
    return stream.getvalue()


def _quoted(value: Any) -> Any:
    """Return ``value``, its lists and mappings each on one line, its texts in quotes where they need some."""
    if isinstance(value, Mapping):
        made: Any = CommentedMap({_quoted(name): _quoted(each) for name, each in value.items()})
    elif isinstance(value, list | tuple):
        made = CommentedSeq([_quoted(each) for each in value])
    elif isinstance(value, str) and (not _PLAIN.fullmatch(value) or read_yaml(value) != value):
        # The library leaves out quotes that it needs itself, as around `:0`.
        return DoubleQuotedScalarString(value)
    else:
        return value
    made.fa.set_flow_style()
    return made


class _Scanner(Scanner):
    def fetch_flow_collection_start(self, TokenClass: Any, to_push: str) -> None:  # noqa: N803
        # Each bracket would be looked at again for every token inside of it.
        if len(self.flow_context) >= MAX_DEPTH:
            raise ScannerError(None, None, f"nested more than {MAX_DEPTH} deep", self.reader.get_mark())
        super().fetch_flow_collection_start(TokenClass, to_push)


class _Constructor(SafeConstructor):
    def construct_document(self, node: Node) -> Any:
        if _count_values(node, {}) > MAX_VALUES:
            problem = f"more than {MAX_VALUES:,} values, where aliases are written out"
            raise ConstructorError(None, None, problem, node.start_mark)
        return super().construct_document(node)

    def check_mapping_key(self, node: Node, key_node: Node, mapping: Any, key: Any, value: Any) -> bool:  # noqa: ARG002
        if key in mapping:
            raise ConstructorError(None, None, f"{key} appears twice", key_node.start_mark)
        return True


def _count_values(node: Node, counted: dict[int, float]) -> float:
    """Return how many nodes there are at and below ``node``, those behind an alias as often as it stands."""
    if isinstance(node, ScalarNode):
        return 1
    if id(node) not in counted:
        # Where an alias stands inside of what it names.
        counted[id(node)] = math.inf
        children = [part for pair in node.value for part in pair] if isinstance(node, MappingNode) else node.value
        counted[id(node)] = 1 + sum(_count_values(child, counted) for child in children)
    return counted[id(node)]
