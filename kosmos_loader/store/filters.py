"""Metadata filters: a dict in, an SQL condition with parameters out.

```
{"page": 3, "source": "/scans/a.pdf"}                      all of them hold
{"page": {"$gte": 2, "$lt": 9}}                            comparisons
{"kind": {"$in": ["table", "list"]}}                       and $nin, $contains, $exists
{"$or": [{"page": 1}, {"$not": {"kind": "table"}}]}        and $and
```
Keys are those of `Chunk.metadata()` but `boxes` and `spans`. Values are compared with values of
their own kind: 3 and 3.0 are equal, 3 and "3" are not. `$contains` finds a part of a text or an
item of a list. A chunk without the key fails every comparison, `$ne` and `$nin` too, as in
LlamaIndex; `$exists` asks for it, and `$not` turns round whatever it is given.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from kosmos_loader.errors import UsageError

Condition = tuple[str, list[Any]]
"""An SQL expression over the table `chunks` that is 0 or 1, and its parameters in order."""

_COMPARISONS = {"$eq": "=", "$ne": "<>", "$gt": ">", "$gte": ">=", "$lt": "<", "$lte": "<="}
_MEMBERSHIPS = {"$in": "IN", "$nin": "NOT IN"}
_OPERATORS = (*_COMPARISONS, *_MEMBERSHIPS, "$contains", "$exists")
_COLUMNS = ("chunk_id", "doc_id", "source")
"""Metadata that has a column with an index of its own."""

_PRESENT = "(ifnull(json_type(metadata, ?), 'null') <> 'null')"
_DEPTH = 32
_INTEGERS = range(-(2**63), 2**63)


def condition(filter: Mapping[str, Any]) -> Condition:  # noqa: A002 - the name users know
    """The SQL condition that `filter` stands for; `UsageError` for one that cannot be meant."""
    return _every(filter, depth=0)


def _every(filter: Any, *, depth: int) -> Condition:  # noqa: A002 - as above
    if not isinstance(filter, Mapping):
        raise UsageError(f'a filter is a dict such as {{"page": 3}}, not {filter!r:.80}')
    if depth > _DEPTH:
        raise UsageError(f"the filter is nested more than {_DEPTH} deep; write it flatter")
    return _joined("AND", [_one(key, value, depth=depth) for key, value in filter.items()])


def _one(key: Any, value: Any, *, depth: int) -> Condition:
    if key in ("$and", "$or"):
        if isinstance(value, str) or not isinstance(value, Sequence):
            raise UsageError(f"{key} takes a list of filters, not {value!r:.80}")
        return _joined(key[1:].upper(), [_every(part, depth=depth + 1) for part in value])
    if key == "$not":
        inner, parameters = _every(value, depth=depth + 1)
        return f"NOT {inner}", parameters
    _check_key(key)
    if not isinstance(value, Mapping):
        return _compared(key, "$eq", value)
    if not value:
        raise UsageError(f"the filter on {key!r} is empty; give it an operator such as $eq")
    return _joined(
        "AND", [_compared(key, operator, operand) for operator, operand in value.items()]
    )


def _joined(word: str, parts: list[Condition]) -> Condition:
    if not parts:
        return ("0" if word == "OR" else "1"), []
    sql = f" {word} ".join(sql for sql, _ in parts)
    return f"({sql})", [parameter for _, parameters in parts for parameter in parameters]


def _check_key(key: Any) -> None:
    if isinstance(key, str) and key.startswith("$"):
        raise UsageError(f"no filter operator is called {key!r}; use $and, $or or $not here")
    # Within the quotes of a JSON path these four would end the name or have no meaning there.
    if not isinstance(key, str) or not key or any(c in '"\\\0' or not c.isprintable() for c in key):
        raise UsageError(f"{key!r:.80} is no metadata key")


def _compared(key: str, operator: Any, operand: Any) -> Condition:
    if operator in _COMPARISONS:
        return _comparison(key, _COMPARISONS[operator], operand)
    if operator in _MEMBERSHIPS:
        return _membership(key, _MEMBERSHIPS[operator], operand)
    path = _path(key)
    if operator == "$contains":
        return _containing(path, operand)
    if operator == "$exists":
        if not isinstance(operand, bool):
            raise UsageError(f"$exists takes true or false, not {operand!r:.80}")
        return (_PRESENT if operand else f"(NOT {_PRESENT})"), [path]
    raise UsageError(
        f"no filter operator is called {operator!r:.80}; choose one of {', '.join(_OPERATORS)}"
    )


def _comparison(key: str, sign: str, operand: Any) -> Condition:
    if sign == "<>":
        equal, parameters = _comparison(key, "=", operand)
        return f"({_PRESENT} AND NOT {equal})", [_path(key), *parameters]
    if sign == "=" and key in _COLUMNS and isinstance(operand, str):
        return f"({key} = ?)", [encodable(operand)]
    value, kinds = _typed(operand)
    return (
        f"(ifnull(json_type(metadata, ?) IN {kinds} AND json_extract(metadata, ?) {sign} ?, 0))",
        [_path(key), _path(key), value],
    )


def _membership(key: str, word: str, operand: Any) -> Condition:
    if isinstance(operand, str) or not isinstance(operand, Sequence | set | frozenset):
        raise UsageError(f"${word.lower().replace('not in', 'nin')} takes a list, not {operand!r}")
    wanted = [_typed(value) for value in operand]
    path = _path(key)
    if word == "IN" and key in _COLUMNS and all(isinstance(value, str) for value in operand):
        listed = _json([v for v, _ in wanted], operand)
        return f"({key} IN (SELECT value FROM json_each(?)))", [listed]  # noqa: S608 - one of three names
    # One parameter however long the list is: SQLite limits the number of parameters.
    sql = (
        "EXISTS (SELECT 1 FROM json_each(?) WHERE value = json_extract(metadata, ?)"
        " AND (json_type(metadata, ?) IN ('integer', 'real')) = (type IN ('integer', 'real'))"
        " AND (json_type(metadata, ?) = 'text') = (type = 'text'))"
    )
    parameters = [_json([v for v, _ in wanted], operand), path, path, path]
    if word == "IN":
        return f"({sql})", parameters
    return f"({_PRESENT} AND NOT {sql})", [path, *parameters]


def _containing(path: str, operand: Any) -> Condition:
    value, kinds = _typed(operand)
    items = f"json_each(metadata, ?) AS item WHERE item.type IN {kinds} AND item.value = ?"
    in_list = f"(json_type(metadata, ?) IS 'array' AND EXISTS (SELECT 1 FROM {items}))"  # noqa: S608 - fixed words only
    in_text = "(json_type(metadata, ?) IS 'text' AND instr(json_extract(metadata, ?), ?) > 0)"
    if not isinstance(value, str):
        return in_list, [path, path, value]
    return f"({in_list} OR {in_text})", [path, path, value, path, path, value]


def _typed(operand: Any) -> tuple[str | int | float, str]:
    """The value as SQLite is given it, and the JSON types it can be equal to."""
    if isinstance(operand, bool):
        return int(operand), "('true', 'false')"
    if isinstance(operand, str):
        return encodable(operand), "('text')"
    if isinstance(operand, int) and operand in _INTEGERS:
        return operand, "('integer', 'real')"
    if isinstance(operand, float) and math.isfinite(operand):
        return operand, "('integer', 'real')"
    raise UsageError(
        f"a filter compares with text, numbers, true or false, not {operand!r:.80};"
        ' for a missing key use {"$exists": False}'
    )


def _path(key: str) -> str:
    return f'$."{encodable(key)}"'


def _json(values: list[Any], operand: Any) -> str:
    flags = [isinstance(value, bool) for value in operand]
    return json.dumps(
        [bool(v) if flag else v for v, flag in zip(values, flags, strict=True)],
        ensure_ascii=False,
    )


def encodable(text: str) -> str:
    """`text` as SQLite can hold and compare it.

    NUL, at which its JSON functions stop, and lone surrogates, as in undecodable file names, are
    escaped.
    """
    plain = text.replace("\0", r"\x00")
    try:
        plain.encode()
    except UnicodeEncodeError:
        return plain.encode("utf-8", "surrogatepass").decode("utf-8", "backslashreplace")
    return plain
