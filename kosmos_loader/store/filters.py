"""Metadata filters: a dict in, an SQL condition with parameters out.

```
{"page": 3, "source": "/scans/a.pdf"}                      all of them hold
{"page": {"$gte": 2, "$lt": 9}}                            and $gt, $lte, $eq, $ne
{"kind": {"$in": ["table", "list"]}}                       and $nin
{"tags": {"$contains": "paid"}}                            and $any, $all: of a list of values
{"title": {"$icontains": "invoice"}}                       in a text, upper or lower case
{"note": {"$empty": True}, "page": {"$exists": True}}      there or not
{"$or": [{"page": 1}, {"$not": {"kind": "table"}}]}        and $and
{"$ids": ["a", "b"]}, {"$doc_ids": ["minutes"]}            what entries are called
```
Keys are those of an entry's metadata, for a chunk those of `Chunk.metadata()` but `boxes` and
`spans`. Values are compared with values of their own kind: 3 and 3.0 are equal, 3 and "3" are not,
nor are 1 and true. `$contains` finds a part of a text, an item of a list, or a key of a dict;
`$any` and `$all` ask that for one, or for each, of several. A key that is missing or None fails
everything but `$ne`, `$nin` and `$empty`, as in LlamaIndex, all of whose operators there are;
`$empty` is true of an empty text and an empty list too. `$not` turns round whatever it is given.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from kosmos_loader.errors import UsageError
from kosmos_loader.store.facets import facet

Condition = tuple[str, list[Any]]
"""An SQL expression over the table `entries` that is 0 or 1, and its parameters in order."""

_COMPARISONS = {"$eq": "=", "$ne": "<>", "$gt": ">", "$gte": ">=", "$lt": "<", "$lte": "<="}
_SEVERAL = {"$any": "OR", "$all": "AND"}
_OPERATORS = (
    *_COMPARISONS,
    *("$in", "$nin", "$contains", "$icontains"),
    *_SEVERAL,
    *("$exists", "$empty"),
)
_COLUMNS = {"chunk_id": "id", "doc_id": "doc_id", "source": "source"}
"""Metadata that has a column with an index of its own, except in rows that are `aside`."""

_NAMES = {"$ids": "id", "$doc_ids": "doc_id"}
"""What an entry is called, whatever its metadata says."""

LOWER = "unicode_lower"
"""The SQL function that the database gives for `str.lower`: SQLite's own knows ASCII alone."""

_PRESENT = "(ifnull(json_type(metadata, ?), 'null') <> 'null')"
_DEPTH = 32
_WORDS = 64
"""Values of a list that are looked up; for a longer one all metadata are looked at."""

_INTEGERS = range(-(2**63), 2**63)


def condition(filter: Mapping[str, Any]) -> Condition:  # noqa: A002 - the name users know
    """The SQL condition that `filter` stands for; `UsageError` for one that cannot be meant."""
    return _every(filter, depth=0)


def among(column: str, values: Iterable[str]) -> Condition:
    """The condition that `column` of `entries` holds one of `values`."""
    listed = json.dumps(list(values), ensure_ascii=False)
    return f"{column} IN (SELECT value FROM json_each(?))", [listed]  # noqa: S608 - names only


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
    if key in _NAMES:
        names = _listed(key, value)
        if not all(isinstance(name, str) for name in names):
            raise UsageError(f"{key} takes a list of texts, not {value!r:.80}")
        return among(_NAMES[key], map(encodable, names))
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
    if operator == "$ne":
        return _negated(_comparison(key, "=", operand))
    if operator in _COMPARISONS:
        return _comparison(key, _COMPARISONS[operator], operand)
    if operator == "$in":
        return _membership(key, _listed(operator, operand))
    if operator == "$nin":
        return _negated(_membership(key, _listed(operator, operand)))
    path = _path(key)
    if operator == "$contains":
        return _containing(path, operand)
    if operator in _SEVERAL:
        parts = [_containing(path, value) for value in _listed(operator, operand)]
        found, parameters = _joined(_SEVERAL[operator], parts)
        return f"({_PRESENT} AND {found})", [path, *parameters]
    if operator == "$icontains":
        return _containing_in_any_case(path, operand)
    if operator in ("$exists", "$empty"):
        return _answered(path, operator, operand)
    raise UsageError(
        f"no filter operator is called {operator!r:.80}; choose one of {', '.join(_OPERATORS)}"
    )


def _negated(condition: Condition) -> Condition:
    return f"(NOT {condition[0]})", condition[1]


def _comparison(key: str, sign: str, operand: Any) -> Condition:
    value, mark, kinds = _typed(operand)
    sql = (
        f"ifnull(json_type(metadata, ?) IN {kinds} AND json_extract(metadata, ?) {sign} {mark}, 0)"
    )
    parameters = [_path(key), _path(key), value]
    if sign != "=":
        return f"({sql})", parameters
    if key in _COLUMNS and isinstance(operand, str):
        return f"(({_COLUMNS[key]} = ? OR aside = 1) AND {sql})", [value, *parameters]
    return _among_those_with(key, [operand], (f"({sql})", parameters))


def _among_those_with(key: str, operands: list[Any], exact: Condition) -> Condition:
    """`exact`, asked only of entries that can have one of `operands` under `key`."""
    words = [facet(encodable(key), _plain(operand)) for operand in operands[: _WORDS + 1]]
    if not 0 < len(words) <= _WORDS or None in words:
        return exact
    sql = "key IN (SELECT rowid FROM facets WHERE facets MATCH ?)"
    match = " OR ".join(f'"{word}"' for word in words)
    return f"({sql} AND {exact[0]})", [match, *exact[1]]


def _listed(operator: str, operand: Any) -> list[Any]:
    if isinstance(operand, str) or not isinstance(operand, Sequence | set | frozenset):
        raise UsageError(f"{operator} takes a list, not {operand!r:.80}")
    return list(operand)


def _membership(key: str, operand: list[Any]) -> Condition:
    listed = json.dumps([_plain(value) for value in operand], ensure_ascii=False)
    path = _path(key)
    # One parameter however long the list is: SQLite limits the number of parameters.
    sql = (
        "EXISTS (SELECT 1 FROM json_each(?) WHERE value = json_extract(metadata, ?)"
        " AND (json_type(metadata, ?) IN ('integer', 'real')) = (type IN ('integer', 'real'))"
        " AND (json_type(metadata, ?) = 'text') = (type = 'text'))"
    )
    parameters = [listed, path, path, path]
    if key in _COLUMNS and all(isinstance(value, str) for value in operand):
        own = f"{_COLUMNS[key]} IN (SELECT value FROM json_each(?))"  # noqa: S608 - names only
        return f"(({own} OR aside = 1) AND {sql})", [listed, *parameters]
    return _among_those_with(key, operand, (f"({sql})", parameters))


def _containing(path: str, operand: Any) -> Condition:
    value, mark, kinds = _typed(operand)
    items = f"json_each(metadata, ?) AS item WHERE item.type IN {kinds} AND item.value = {mark}"
    keys = "json_each(metadata, ?) AS item WHERE item.key = ?"
    in_list = f"(json_type(metadata, ?) IS 'array' AND EXISTS (SELECT 1 FROM {items}))"  # noqa: S608 - fixed words only
    if not isinstance(operand, str):
        return in_list, [path, path, value]
    in_dict = f"(json_type(metadata, ?) IS 'object' AND EXISTS (SELECT 1 FROM {keys}))"  # noqa: S608 - as above
    in_text = "(json_type(metadata, ?) IS 'text' AND instr(json_extract(metadata, ?), ?) > 0)"
    return f"({in_list} OR {in_dict} OR {in_text})", [path, path, value] * 3


def _containing_in_any_case(path: str, operand: Any) -> Condition:
    if not isinstance(operand, str):
        raise UsageError(f"$icontains takes a text, not {operand!r:.80}")
    sql = f"(json_type(metadata, ?) IS 'text' AND instr({LOWER}(json_extract(metadata, ?)), ?) > 0)"
    return sql, [path, path, encodable(operand).lower()]


def _answered(path: str, operator: str, operand: Any) -> Condition:
    if not isinstance(operand, bool):
        raise UsageError(f"{operator} takes true or false, not {operand!r:.80}")
    if operator == "$exists":
        yes: Condition = (_PRESENT, [path])
    else:
        text = "(json_type(metadata, ?) IS 'text' AND json_extract(metadata, ?) = '')"
        array = "(json_type(metadata, ?) IS 'array' AND json_array_length(metadata, ?) = 0)"
        yes = f"(NOT {_PRESENT} OR {text} OR {array})", [path] * 5
    return yes if operand else _negated(yes)


def _typed(operand: Any) -> tuple[str | int, str, str]:
    """The parameter, what stands for it in SQL, and the JSON types that it can be equal to."""
    value = _plain(operand)
    if isinstance(value, bool):
        return int(value), "?", "('true', 'false')"
    if isinstance(value, str):
        return value, "?", "('text')"
    if isinstance(value, int):
        return value, "?", "('integer', 'real')"
    # SQLite rounds a number that it reads as text in its own way, so both are read as text.
    return json.dumps(value), "json_extract(?, '$')", "('integer', 'real')"


def _plain(operand: Any) -> str | bool | int | float:
    if isinstance(operand, str):
        return encodable(operand)
    if isinstance(operand, bool):
        return operand
    if isinstance(operand, int) and operand in _INTEGERS:
        return operand
    if isinstance(operand, float) and math.isfinite(operand):
        return operand
    if isinstance(operand, int):
        raise UsageError(f"a filter compares with numbers of up to 64 bits, not {operand!r:.80}")
    raise UsageError(
        f"a filter compares with text, numbers, true or false, not {operand!r:.80};"
        ' for a missing key use {"$exists": False}'
    )


def _path(key: str) -> str:
    return f'$."{encodable(key)}"'


def encodable(text: str) -> str:
    """`text` as SQLite can hold and compare it.

    NUL, at which its JSON functions stop, and lone surrogates, as in undecodable file names, are
    escaped. A text that is escaped already stays as it is, so that a name that a store tells can be
    given back to it; and so two ids that differ in nothing but that are one. `UsageError` for what
    is no text, such as a number as id.
    """
    if not isinstance(text, str):
        raise UsageError(f"ids, doc_ids and sources are text, not {text!r:.80}")
    if text.isascii() and "\0" not in text:
        return text
    plain = text.replace("\0", r"\x00")
    try:
        plain.encode()
    except UnicodeEncodeError:
        return plain.encode("utf-8", "surrogatepass").decode("utf-8", "backslashreplace")
    return plain
