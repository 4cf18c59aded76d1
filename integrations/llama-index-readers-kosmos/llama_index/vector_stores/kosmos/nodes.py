"""Nodes as entries of a store, and back."""

from __future__ import annotations

import json
from typing import Any

from llama_index.core.schema import BaseNode, NodeRelationship, RelatedNodeInfo, TextNode
from llama_index.core.vector_stores.utils import metadata_dict_to_node

from kosmos_loader.errors import UsageError
from kosmos_loader.loading import HIDDEN_KEYS, embedded_text
from kosmos_loader.store import Entry

_CONTENT = "_node_content"
_TYPE = "_node_type"
"""What is in metadata of an entry besides that of the node, under the names LlamaIndex has."""


def entry_of(node: BaseNode) -> Entry:
    """The entry that keeps all of `node` but its embedding."""
    fields = _fields(node)
    metadata, text = fields.pop("metadata"), node.get_content()
    for kept_apart in ("text", "text_resource"):
        fields.pop(kept_apart, None)
    source = metadata.get("source")
    return Entry(
        id=node.node_id,
        text=text,
        metadata={**metadata, _CONTENT: json.dumps(fields), _TYPE: node.class_name()},
        doc_id=node.ref_doc_id or "",
        source=source if isinstance(source, str) else "",
        embedded=embedded_text(text, metadata),
    )


def _fields(node: BaseNode) -> dict[str, Any]:
    try:
        fields: dict[str, Any] = node.model_dump(mode="json", exclude={"embedding"})
    except (ValueError, RecursionError) as error:
        raise UsageError(
            f"node {node.node_id!r:.80} cannot be written as JSON ({error}); give its metadata "
            "numbers and texts of Python, such as value.item() of one of NumPy"
        ) from error
    return fields


def node_of(entry: Entry) -> BaseNode:
    """The node that `entry` keeps; what was no node, such as a chunk, becomes a `TextNode`."""
    metadata = {k: v for k, v in entry.metadata.items() if k not in (_CONTENT, _TYPE)}
    if _CONTENT in entry.metadata:
        node = metadata_dict_to_node(dict(entry.metadata), entry.text)
        node.metadata = metadata
        return node
    return TextNode(
        id_=entry.id,
        text=entry.text,
        metadata=metadata,
        excluded_embed_metadata_keys=list(HIDDEN_KEYS),
        excluded_llm_metadata_keys=list(HIDDEN_KEYS),
        relationships=(
            {NodeRelationship.SOURCE: RelatedNodeInfo(node_id=entry.doc_id)} if entry.doc_id else {}
        ),
    )
