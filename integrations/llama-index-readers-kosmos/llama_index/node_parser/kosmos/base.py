"""`KosmosNodeParser`: pages and files as one document to nodes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from llama_index.core.bridge.pydantic import BaseModel, Field, field_validator, model_validator
from llama_index.core.node_parser import NodeParser
from llama_index.core.node_parser.node_utils import default_id_func
from llama_index.core.schema import (
    BaseNode,
    Document,
    MetadataMode,
    NodeRelationship,
    RelatedNodeInfo,
    TextNode,
)
from llama_index.core.utils import get_tqdm_iterable
from llama_index.readers.kosmos.documents import KosmosDocument
from llama_index.readers.kosmos.fields import only_known
from llama_index.readers.kosmos.lengths import ChunkLength

from kosmos_loader.chunking import BREAK, chunk
from kosmos_loader.document import GEOMETRY_KEYS, Chunk
from kosmos_loader.rechunking import rechunk


class KosmosNodeParser(NodeParser):
    """Cuts documents of `KosmosReader`, a page or a file each, into nodes that know their place.

    ```python
    from llama_index.core.ingestion import IngestionPipeline
    from llama_index.node_parser.kosmos import KosmosNodeParser
    from llama_index.readers.kosmos import KosmosReader

    pipeline = IngestionPipeline(transformations=[KosmosNodeParser(chunk_size=800)])
    nodes = pipeline.run(documents=KosmosReader(mode="page").load_data("letter.pdf"))
    ```

    Nodes are the chunks that `mode="chunks"` gives, with all their metadata and exact boxes; only
    what runs over the border of a page stays two nodes with `mode="page"`. Ids are stable from run
    to run. Each node has its document as SOURCE and PARENT, and PREVIOUS and NEXT in reading order
    within it; the document gets the nodes as CHILD, which is what `AutoMergingRetriever` asks for.
    Relations do not repeat the geometry.

    Of a document that lost its blocks (one that came back from a document store, or was made of a
    saved text), boxes are as exact as its metadata: where the spans would not have fitted into
    10 KB, neighbours were joined there. A document of another reader is cut without boxes. One
    without text gives no node. Raises `KosmosLoaderError`s.
    """

    chunk_size: int = Field(default=1000, description="Size of a node at most.")
    chunk_overlap: int = Field(default=0, description="How much two nodes may share.")
    chunk_length: ChunkLength = Field(
        default_factory=lambda: len,
        description="Counts both: characters, or what a callable or a tokenizer counts.",
    )
    heading_size: int | None = Field(
        default=None, description="How much of the headings above a node is kept; all if None."
    )

    @field_validator("id_func", mode="before")
    @classmethod
    def _saved(cls, id_func: Any) -> Any:
        """The default one, where it was saved: the base class saves its name and cannot read it."""
        is_default = id_func == {"id_func_name": default_id_func.__name__, "title": "id_func"}
        return default_id_func if is_default else id_func

    @model_validator(mode="before")
    @classmethod
    def _known(cls, data: Any) -> Any:
        return only_known(cls, data)

    def model_post_init(self, _context: Any, /) -> None:
        """Refuse settings that cannot be meant at once."""
        chunk((), **self._sizes())

    def _sizes(self) -> dict[str, Any]:
        return {
            "size": self.chunk_size,
            "overlap": self.chunk_overlap,
            "length": self.chunk_length,
            "heading_size": self.heading_size,
        }

    def __getstate__(self) -> dict[Any, Any]:
        """All of it: the base class would drop what cannot be pickled and go on without it."""
        return BaseModel.__getstate__(self)

    @classmethod
    def class_name(cls) -> str:
        """The name under which LlamaIndex saves it."""
        return "KosmosNodeParser"

    def _parse_nodes(
        self,
        nodes: Sequence[BaseNode],
        show_progress: bool = False,
        **kwargs: Any,
    ) -> list[BaseNode]:
        del kwargs  # LlamaIndex passes on what other transformations may want
        parsed = list[BaseNode]()
        for node in get_tqdm_iterable(nodes, show_progress, "Parsing nodes"):
            pieces = list(self._nodes(node))
            if pieces:
                node.relationships[NodeRelationship.CHILD] = [
                    RelatedNodeInfo(node_id=piece.node_id, node_type=piece.get_type())
                    for piece in pieces
                ]
            parsed += pieces
        return parsed

    def _nodes(self, document: BaseNode) -> Iterator[TextNode]:
        origin = document.as_related_node_info()
        is_placed = "spans" in document.metadata
        for number, piece in enumerate(self._chunks(document)):
            has_own_id = self.id_func is default_id_func
            yield TextNode(
                id_=piece.chunk_id if has_own_id else self.id_func(number, document),
                text=piece.text,
                metadata=piece.metadata() if is_placed else {},
                excluded_embed_metadata_keys=list(document.excluded_embed_metadata_keys),
                excluded_llm_metadata_keys=list(document.excluded_llm_metadata_keys),
                metadata_separator=document.metadata_separator,
                metadata_template=document.metadata_template,
                relationships={
                    NodeRelationship.SOURCE: origin,
                    NodeRelationship.PARENT: origin,
                },
            )

    def _chunks(self, document: BaseNode) -> Iterator[Chunk]:
        text = document.get_content(MetadataMode.NONE)
        blocks = document.blocks if isinstance(document, KosmosDocument) else ()
        if blocks and text == BREAK.join(block.markdown for block in blocks):
            return chunk(blocks, **self._sizes())
        whole = Chunk.from_metadata(text, document.metadata)
        if not whole.chunk_id:
            whole = Chunk.from_metadata(text, {}, chunk_id=document.node_id)
        return rechunk(whole, **self._sizes())

    def _postprocess_parsed_nodes(
        self, nodes: list[BaseNode], parent_doc_map: dict[str, Document]
    ) -> list[BaseNode]:
        for node in super()._postprocess_parsed_nodes(nodes, parent_doc_map):
            for related in node.relationships.values():
                for info in related if isinstance(related, list) else [related]:
                    for key in GEOMETRY_KEYS:
                        info.metadata.pop(key, None)
        return nodes
