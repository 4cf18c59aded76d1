"""Metadata filters of LlamaIndex as filters of the store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from llama_index.core.vector_stores.types import (
    FilterCondition,
    FilterOperator,
    MetadataFilter,
    MetadataFilters,
)

from kosmos_loader.errors import UsageError

Filter = Mapping[str, Any]

_OPERATORS = {
    FilterOperator.GT: "$gt",
    FilterOperator.GTE: "$gte",
    FilterOperator.LT: "$lt",
    FilterOperator.LTE: "$lte",
    FilterOperator.ANY: "$any",
    FilterOperator.ALL: "$all",
    FilterOperator.CONTAINS: "$contains",
    FilterOperator.TEXT_MATCH: "$contains",
    FilterOperator.TEXT_MATCH_INSENSITIVE: "$icontains",
}

_DOCUMENT = ("ref_doc_id", "document_id")
"""Keys under which LlamaIndex's other stores keep the document that a node was made from."""

EVERYTHING: Filter = {"$and": []}


def filter_of(filters: MetadataFilters | MetadataFilter) -> Filter:
    """The filter of `kosmos_loader.store` that lets the same nodes pass.

    A missing key fails every comparison but `!=`, `nin` and `is_empty`, as in LlamaIndex's own
    `build_metadata_filter_fn`. `NOT` lets pass what none of its filters does. `UsageError` for a
    value that cannot be compared.
    """
    if isinstance(filters, MetadataFilter):
        return _one(filters)
    parts = [filter_of(part) for part in filters.filters]
    if not parts:
        return EVERYTHING
    match filters.condition or FilterCondition.AND:
        case FilterCondition.AND:
            return {"$and": parts}
        case FilterCondition.OR:
            return {"$or": parts}
        case FilterCondition.NOT:
            return {"$not": {"$or": parts}}


def _one(condition: MetadataFilter) -> Filter:
    key, value = condition.key, condition.value
    match condition.operator:
        case FilterOperator.EQ:
            return _among(key, [value])
        case FilterOperator.NE:
            return {"$not": _among(key, [value])}
        case FilterOperator.IN:
            return _among(key, _listed(condition))
        case FilterOperator.NIN:
            return {"$not": _among(key, _listed(condition))}
        case FilterOperator.IS_EMPTY:
            return {key: {"$empty": True}}
        case operator:
            return {key: {_OPERATORS[operator]: value}}


def _among(key: str, values: Sequence[Any]) -> Filter:
    if key in _DOCUMENT:
        return {"$doc_ids": values}
    # a filter of LlamaIndex cannot hold True and False; to Python they equal 1 and 0
    return {key: {"$in": [*values, *(bool(value) for value in values if value in (0, 1))]}}


def _listed(condition: MetadataFilter) -> Sequence[Any]:
    if not isinstance(condition.value, list):
        raise UsageError(
            f"{condition.operator.value!r} compares {condition.key!r} with a list, not with "
            f"{condition.value!r:.80}"
        )
    return condition.value
