"""`KosmosVectorStore`: LlamaIndex's contract, in a folder and in none."""

from __future__ import annotations

import asyncio
import copy
import json
import pickle
import threading
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from llama_index.core import StorageContext, VectorStoreIndex
from llama_index.core.embeddings import BaseEmbedding, MockEmbedding
from llama_index.core.ingestion import IngestionPipeline
from llama_index.core.schema import (
    BaseNode,
    ImageNode,
    IndexNode,
    MediaResource,
    Node,
    NodeRelationship,
    RelatedNodeInfo,
    TextNode,
)
from llama_index.core.storage.docstore import SimpleDocumentStore
from llama_index.core.vector_stores.types import (
    BasePydanticVectorStore,
    FilterCondition,
    FilterOperator,
    MetadataFilter,
    MetadataFilters,
    VectorStoreQuery,
    VectorStoreQueryMode,
    VectorStoreQueryResult,
)
from llama_index.core.vector_stores.utils import build_metadata_filter_fn
from llama_index.node_parser.kosmos import KosmosNodeParser
from llama_index.readers.kosmos import KosmosReader
from llama_index.vector_stores.kosmos import KosmosVectorStore

from kosmos_loader.embedding import HashEmbedder
from kosmos_loader.errors import StoreMismatch, UsageError
from kosmos_loader.loading import PassageLoader
from kosmos_loader.store import Store
from kosmos_loader.testing.loaders import book, scripted

AXES = np.eye(4).tolist()


def node(name: str, axis: int, text: str = "", *, of: str = "", **metadata: Any) -> TextNode:
    origin = {NodeRelationship.SOURCE: RelatedNodeInfo(node_id=of)} if of else {}
    return TextNode(
        id_=name,
        text=text or name,
        embedding=AXES[axis],
        metadata=metadata,
        relationships=origin,
    )


def nearest(vectors: BasePydanticVectorStore, axis: int, **query: Any) -> list[str]:
    """Ids, nearest first, of what is asked for with the vector of an axis."""
    asked = VectorStoreQuery(query_embedding=AXES[axis], **{"similarity_top_k": 1, **query})
    return list(vectors.query(asked).ids or [])


def where(*filters: Any, condition: FilterCondition = FilterCondition.AND) -> MetadataFilters:
    made = [f if isinstance(f, MetadataFilters) else as_filter(*f) for f in filters]
    return MetadataFilters(filters=made, condition=condition)


def as_filter(key: str, operator: str, value: Any = None) -> MetadataFilter:
    return MetadataFilter(key=key, value=value, operator=FilterOperator(operator))


@pytest.fixture(params=["temporary", "folder"])
def vectors(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[KosmosVectorStore]:
    folder = tmp_path / "store" if request.param == "folder" else None
    with KosmosVectorStore(folder) as opened:
        yield opened


@pytest.fixture
def ships(vectors: KosmosVectorStore) -> KosmosVectorStore:
    vectors.add(
        [
            node("a", 0, "The quay wall was repaired.", of="log", page=1, kind="list"),
            node("b", 1, "A ship paid its harbour dues.", of="log", page=2, tags=["toll", "ship"]),
            node("c", 2, "Fog lay over the roads.", of="diary", page=3, kind="paragraph"),
        ]
    )
    return vectors


def test_it_is_a_vector_store() -> None:
    assert BasePydanticVectorStore.__name__ in [b.__name__ for b in KosmosVectorStore.__mro__]
    assert KosmosVectorStore().stores_text


def test_a_new_store_answers_with_nothing(vectors: KosmosVectorStore) -> None:
    assert vectors.client is None
    assert vectors.add([]) == []
    assert nearest(vectors, 0) == []
    assert vectors.get_nodes() == []
    vectors.delete("a")
    vectors.delete_nodes(["a"])
    vectors.clear()
    assert vectors.client is None


# What llama-index-vector-stores-faiss 0.7.0 does wrong


def test_no_node_answers_for_another_after_delete_and_add(vectors: KosmosVectorStore) -> None:
    """There ids come from the number of vectors, and 'd' answers to the vector of 'c'."""
    vectors.add([node("a", 0), node("b", 1), node("c", 2)])
    vectors.delete_nodes(["a"])
    vectors.add([node("d", 3)])
    assert [nearest(vectors, axis) for axis in (1, 2, 3)] == [["b"], ["c"], ["d"]]
    assert sorted(nearest(vectors, 0, similarity_top_k=9)) == ["b", "c", "d"]


def test_all_nodes_of_a_document_are_deleted_with_it(ships: KosmosVectorStore) -> None:
    ships.delete("log")
    assert nearest(ships, 0, similarity_top_k=9) == ["c"]
    ships.delete("log")
    ships.delete("no such document")
    assert len(ships.get_nodes()) == 1


def test_a_node_that_is_added_again_replaces_itself(ships: KosmosVectorStore) -> None:
    changed = node("a", 3, "It was not repaired after all.", of="diary")
    assert ships.add([changed, changed]) == ["a", "a"]
    assert len(ships.get_nodes()) == 3
    assert nearest(ships, 3) == ["a"]
    [kept] = ships.get_nodes(["a"])
    assert (kept.get_content(), kept.ref_doc_id, kept.metadata) == (changed.text, "diary", {})


def test_it_finds_what_the_faiss_store_of_llamaindex_finds() -> None:
    peer = pytest.importorskip("llama_index.vector_stores.faiss").FaissVectorStore
    import faiss

    rng = np.random.default_rng(5)
    rows = rng.standard_normal((200, 16))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    nodes = [
        TextNode(id_=str(n), text=str(n), embedding=row) for n, row in enumerate(rows.tolist())
    ]
    theirs = peer(faiss_index=faiss.IndexFlatIP(16))
    theirs.add(nodes)
    with KosmosVectorStore() as ours:
        ours.add(nodes)
        for row in rng.standard_normal((20, 16)).tolist():
            asked = VectorStoreQuery(query_embedding=row, similarity_top_k=5)
            assert ours.query(asked).ids == theirs.query(asked).ids


# Nodes


def rich() -> dict[str, Any]:
    origin = RelatedNodeInfo(node_id="log", metadata={"x": 1}, hash="h")
    return {
        "metadata": {"page": 3, "deep": {"list": [1, None, "é"]}, "none": None, "share": 0.5},
        "excluded_embed_metadata_keys": ["deep"],
        "excluded_llm_metadata_keys": ["none"],
        "metadata_template": "{key} = {value}",
        "metadata_separator": " / ",
        "relationships": {
            NodeRelationship.SOURCE: origin,
            NodeRelationship.CHILD: [RelatedNodeInfo(node_id="child")],
        },
    }


@pytest.mark.parametrize(
    "kept",
    [
        TextNode(id_="t", text="Some text", start_char_idx=3, end_char_idx=12, **rich()),
        ImageNode(id_="i", text="A crop", image_path="crop.png", **rich()),
        IndexNode(
            id_="x", text="See", index_id="other", obj=TextNode(id_="o", text="in"), **rich()
        ),
        Node(id_="n", text_resource=MediaResource(text="Text"), **rich()),
        TextNode(id_="é\0\ud800", text="lone \ud800 half", metadata={"_node_type": "mine"}),
    ],
    ids=lambda kept: type(kept).__name__,
)
def test_nodes_come_back_as_they_were(vectors: KosmosVectorStore, kept: BaseNode) -> None:
    vectors.add([kept.model_copy(update={"embedding": AXES[0]})])
    [found] = vectors.query(VectorStoreQuery(query_embedding=AXES[0])).nodes or []
    assert type(found) is type(kept)
    expected = kept.to_dict()
    if "_node_type" in kept.metadata:
        expected["metadata"] = {}  # LlamaIndex's own name
    assert found.to_dict() == expected
    assert vectors.get_nodes([kept.id_]) == [found]


def test_metadata_that_json_does_not_know_comes_as_llamaindex_writes_it(
    vectors: KosmosVectorStore,
) -> None:
    vectors.add([node("a", 0, on=date(1978, 3, 4), share=float("nan"))])
    assert vectors.get_nodes()[0].metadata == {"on": "1978-03-04", "share": None}


@pytest.mark.parametrize("value", [np.float32(1), np.zeros(2), object(), b"\xff"], ids=type)
def test_metadata_that_cannot_be_written_are_refused_and_add_nothing(
    ships: KosmosVectorStore, value: Any
) -> None:
    before = len(ships.get_nodes())
    with pytest.raises(UsageError, match="node 'odd' cannot be written as JSON"):
        ships.add([node("fine", 0), node("odd", 1, depth=value)])
    assert len(ships.get_nodes()) == before


def test_a_deep_copy_shares_the_store(ships: KosmosVectorStore) -> None:
    copied = copy.deepcopy(ships)
    copied.add([node("tug", 0)])
    assert [found.node_id for found in ships.get_nodes(["tug"])] == ["tug"]
    ships.close()
    kept = [] if ships.folder is None else ["tug"]
    assert [found.node_id for found in copied.get_nodes(["tug"])] == kept


def test_vectors_are_needed_and_of_one_length(ships: KosmosVectorStore) -> None:
    with pytest.raises(UsageError, match="node x has no embedding"):
        ships.add([TextNode(id_="x", text="x")])
    with pytest.raises(StoreMismatch, match="3"):
        ships.add([TextNode(id_="x", text="x", embedding=[1.0, 0.0, 0.0])])
    with pytest.raises(StoreMismatch, match="2"):
        ships.query(VectorStoreQuery(query_embedding=[1.0, 0.0]))
    assert len(ships.get_nodes()) == 3


def test_nodes_are_got_and_deleted_by_ids_and_filters(ships: KosmosVectorStore) -> None:
    def got(*args: Any) -> list[str]:
        return [found.node_id for found in ships.get_nodes(*args)]

    assert got() == ["a", "b", "c"]
    assert got(["c", "x", "a"]) == ["c", "a"]
    assert got(None, where(("page", ">=", 2))) == ["b", "c"]
    assert got(["a", "b"], where(("page", ">=", 2))) == ["b"]
    ships.delete_nodes(["a", "b", "x"], where(("page", ">=", 2)))
    assert got() == ["a", "c"]
    ships.delete_nodes([])
    ships.delete_nodes(filters=where(("kind", "==", "paragraph")))
    assert got() == ["a"]
    for nothing in (None, MetadataFilters(filters=[])):
        with pytest.raises(UsageError, match="clear"):
            ships.delete_nodes(filters=nothing)
    ships.delete_nodes(["a"])
    assert got() == []


def test_everything_can_be_cleared(ships: KosmosVectorStore) -> None:
    ships.clear()
    assert ships.get_nodes() == []
    assert nearest(ships, 0) == []
    ships.add([node("d", 0)])
    assert nearest(ships, 0) == ["d"]


# Queries


def asked(mode: str, **query: Any) -> VectorStoreQuery:
    return VectorStoreQuery(mode=VectorStoreQueryMode(mode), similarity_top_k=9, **query)


def test_vectors_find_by_cosine(ships: KosmosVectorStore) -> None:
    found = ships.query(asked("default", query_embedding=[3.0, 4.0, 0.0, -1.0]))
    assert found.ids == ["b", "a", "c"]
    assert found.similarities == pytest.approx([4 / 26**0.5, 3 / 26**0.5, 0.0])
    opposite = ships.query(asked("default", query_embedding=[-1.0, 0.0, 0.0, 0.0]))
    assert opposite.similarities == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("mode", ["text_search", "sparse"])
def test_words_find_without_a_vector(ships: KosmosVectorStore, mode: str) -> None:
    found = ships.query(asked(mode, query_str="harbour dues"))
    assert found.ids == ["b"]
    assert 0 < (found.similarities or [0])[0] <= 1


@pytest.mark.parametrize("mode", ["hybrid", "semantic_hybrid"])
def test_both_find_together(ships: KosmosVectorStore, mode: str) -> None:
    query = {"query_str": "the quay wall", "query_embedding": AXES[2]}
    found = ships.query(asked(mode, **query))
    assert set((found.ids or [])[:2]) == {"a", "c"}
    assert ships.query(asked(mode, alpha=0.5, **query)) == found
    assert ships.query(asked(mode, alpha=0.0, **query)).ids == ["a"]
    assert (ships.query(asked(mode, alpha=1.0, **query)).ids or [])[0] == "c"
    for alpha in (None, 0.0, 0.5, 1.0):
        few = {"query_str": "the ship quay fog", "query_embedding": AXES[2], "alpha": alpha}
        assert len(ships.query(asked(mode, hybrid_top_k=1, **few)).ids or []) == 1
    agreeing = {"query_str": "fog over the roads", "query_embedding": AXES[2]}
    best = ships.query(asked(mode, **agreeing))
    assert ((best.ids or [])[0], (best.similarities or [])[0]) == ("c", 1.0)
    for alpha in (0.3, 0.7):
        found = ships.query(asked(mode, alpha=alpha, **query))
        similarities = dict(zip(found.ids or [], found.similarities or [], strict=True))
        assert similarities["c"] == pytest.approx(alpha)  # first by vector, without the words
    with pytest.raises(UsageError, match=r"alpha lies between 0 and 1, not at 1\.5"):
        ships.query(asked(mode, alpha=1.5, **query))


def test_what_is_alike_is_left_out_by_marginal_relevance(vectors: KosmosVectorStore) -> None:
    twins = [TextNode(id_=n, text=n, embedding=[1.0, 0.1 * i, 0, 0]) for i, n in enumerate("ab")]
    vectors.add([*twins, TextNode(id_="c", text="c", embedding=[0.8, 0.0, 0.6, 0.0])])
    query = VectorStoreQuery(
        query_embedding=[1.0, 0.0, 0.1, 0.0], similarity_top_k=2, mode=VectorStoreQueryMode.MMR
    )
    assert vectors.query(query).ids == ["a", "c"]
    assert vectors.query(query, mmr_threshold=1.0).ids == ["a", "b"]
    assert vectors.query(query, mmr_prefetch_k=2).ids == ["a", "b"]
    assert vectors.query(query, mmr_prefetch_factor=1).ids == ["a", "b"]
    query.mmr_threshold = 1.0
    assert vectors.query(query).ids == ["a", "b"]


def test_modes_that_learn_are_refused(ships: KosmosVectorStore) -> None:
    with pytest.raises(UsageError, match="'svm' is not known"):
        ships.query(asked("svm", query_embedding=AXES[0]))


def test_ids_of_nodes_and_documents_narrow_a_query(ships: KosmosVectorStore) -> None:
    assert nearest(ships, 0, similarity_top_k=9, node_ids=["b", "x"]) == ["b"]
    assert nearest(ships, 0, similarity_top_k=9, doc_ids=["diary"]) == ["c"]
    assert nearest(ships, 0, similarity_top_k=9, doc_ids=["diary"], node_ids=["a"]) == []
    # as a retriever passes them where it means any
    assert len(nearest(ships, 0, similarity_top_k=9, node_ids=[], doc_ids=[])) == 3


def test_as_many_come_back_as_pass_the_filter(vectors: KosmosVectorStore) -> None:
    nodes = [node(str(n), 0 if n % 50 else 1, rare=not n % 50) for n in range(300)]
    vectors.add(nodes)
    found = nearest(vectors, 0, similarity_top_k=6, filters=where(("rare", "==", 1)))
    assert sorted(found, key=int) == ["0", "50", "100", "150", "200", "250"]


# Filters


@pytest.mark.parametrize(
    ("filters", "passed"),
    [
        (where(("page", "==", 2)), "b"),
        (where(("page", "!=", 2)), "ac"),
        (where(("page", ">", 1), ("page", "<", 3)), "b"),
        (where(("page", "<=", 2)), "ab"),
        (where(("page", "in", [1, 3])), "ac"),
        (where(("page", "nin", [1, 3])), "b"),
        (where(("kind", "!=", "list")), "bc"),
        (where(("kind", "nin", ["list"])), "bc"),
        (where(("kind", "is_empty")), "b"),
        (where(("tags", "is_empty")), "ac"),
        (where(("tags", "any", ["toll", "fog"])), "b"),
        (where(("tags", "all", ["toll", "ship"])), "b"),
        (where(("tags", "all", ["toll", "fog"])), ""),
        (where(("tags", "contains", "ship")), "b"),
        (where(("kind", "text_match", "para")), "c"),
        (where(("kind", "text_match", "Para")), ""),
        (where(("kind", "text_match_insensitive", "Para")), "c"),
        (where(("ref_doc_id", "==", "log")), "ab"),
        (where(("document_id", "!=", "log")), "c"),
        (where(("page", "==", 1), ("page", "==", 3), condition=FilterCondition.OR), "ac"),
        (where(("page", "==", 1), ("page", "==", 3), condition=FilterCondition.NOT), "b"),
        (
            where(
                where(("page", "==", 1), ("page", "==", 2), condition=FilterCondition.OR),
                where(("kind", "==", "list"), condition=FilterCondition.NOT),
            ),
            "b",
        ),
        (MetadataFilters(filters=[]), "abc"),
        (MetadataFilters(filters=[as_filter("page", "==", 2)], condition=None), "b"),
    ],
)
def test_filters_let_pass_what_they_say(
    ships: KosmosVectorStore, filters: MetadataFilters, passed: str
) -> None:
    assert sorted(nearest(ships, 0, similarity_top_k=9, filters=filters)) == list(passed)
    assert [found.node_id for found in ships.get_nodes(filters=filters)] == list(passed)


def test_a_value_that_cannot_be_meant_is_refused(ships: KosmosVectorStore) -> None:
    with pytest.raises(UsageError, match="'in' compares 'page' with a list"):
        ships.get_nodes(filters=where(("page", "in", 3)))
    with pytest.raises(UsageError, match="compares with text, numbers"):
        ships.get_nodes(filters=where(("page", ">", None)))


SCALARS = st.one_of(
    st.integers(-2, 3),
    st.sampled_from([0.5, 1.0, -1.5]),
    st.sampled_from(["", "a", "A", "ab", "Ab", "É", "é", "[x]*?"]),
)
LISTS = st.one_of(
    st.lists(st.integers(-2, 3), max_size=3),
    st.lists(st.sampled_from(["a", "ab", "É"]), max_size=3),
)
# no booleans: to Python True is 1, to JSON it is not
METADATA = st.dictionaries(st.sampled_from(["k", "l"]), st.one_of(st.none(), SCALARS, LISTS))
ROWS = st.lists(METADATA, min_size=1, max_size=5)
FILTERS = st.lists(
    st.builds(
        MetadataFilter,
        key=st.sampled_from(["k", "l"]),
        operator=st.sampled_from(list(FilterOperator)),
        value=st.one_of(SCALARS, LISTS),
    ),
    max_size=3,
)


@pytest.fixture(scope="module")
def one_store() -> Iterator[KosmosVectorStore]:
    with KosmosVectorStore() as opened:
        yield opened


CONDITIONS = st.sampled_from(FilterCondition)


@settings(max_examples=100, deadline=None)
@given(ROWS, st.builds(MetadataFilters, filters=FILTERS, condition=CONDITIONS))
def test_filters_let_pass_what_llamaindex_lets_pass(
    one_store: KosmosVectorStore, rows: list[dict[str, Any]], filters: MetadataFilters
) -> None:
    passes = build_metadata_filter_fn(lambda name: rows[int(name)], filters)
    try:
        expected = [str(n) for n in range(len(rows)) if passes(str(n))]
    except TypeError:
        assume(False)
    one_store.clear()
    one_store.add([node(str(n), 0, **metadata) for n, metadata in enumerate(rows)])
    try:
        found = [kept.node_id for kept in one_store.get_nodes(filters=filters)]
    except UsageError:
        # a list equals nothing here, and neither a text nor a number is a list
        assert any(is_refused(one) for one in filters.filters)
        return
    assert found == expected


def is_refused(one: MetadataFilter) -> bool:
    lists = ("in", "nin", "any", "all")
    texts = ("text_match_insensitive",)
    if one.operator.value in lists:
        return not isinstance(one.value, list)
    is_text = isinstance(one.value, str)
    return isinstance(one.value, list) or (one.operator.value in texts and not is_text)


# Folders


def test_a_folder_that_is_opened_again_answers_the_same(tmp_path: Path) -> None:
    query = VectorStoreQuery(query_embedding=[0.3, 0.2, 0.1, 0.0], similarity_top_k=9)

    def answer(vectors: KosmosVectorStore) -> tuple[Any, ...]:
        found: VectorStoreQueryResult = vectors.query(query)
        return found.ids, found.similarities, [kept.to_dict() for kept in found.nodes or []]

    with KosmosVectorStore(tmp_path / "store") as vectors:
        vectors.add([node("a", 0, page=1), node("b", 1, of="log"), node("c", 2)])
        vectors.delete_nodes(["c"])
        before = answer(vectors)
    with KosmosVectorStore(tmp_path / "store") as again:
        assert answer(again) == before
        saved = json.loads(json.dumps(again.to_dict()))
        assert saved["class_name"] == "KosmosVectorStore"
        copies = [
            KosmosVectorStore.from_dict(saved),
            KosmosVectorStore.from_params(str(tmp_path / "store")),
            pickle.loads(pickle.dumps(again)),  # noqa: S301 - our own bytes
        ]
        assert [answer(copy) for copy in copies] == [before] * 3


def test_a_reader_sees_a_store_that_is_made_after_it_was_opened(tmp_path: Path) -> None:
    with KosmosVectorStore(tmp_path / "s") as reader, KosmosVectorStore(tmp_path / "s") as writer:
        assert nearest(reader, 0) == []
        writer.add([node("a", 0)])
        assert nearest(reader, 0) == ["a"]


def test_a_closed_store_lets_others_write_and_opens_again(tmp_path: Path) -> None:
    first, second = (KosmosVectorStore(tmp_path / "store") for _ in range(2))
    with first, second:
        first.add([node("a", 0)])
        first.close()
        second.add([node("b", 1)])
        assert nearest(first, 1) == ["b"]


def test_a_temporary_store_goes_with_its_folder() -> None:
    vectors = KosmosVectorStore()
    vectors.add([node("a", 0)])
    assert vectors.client is not None
    folder = vectors.client.folder
    assert folder.exists()
    with pytest.raises(UsageError, match="temporary"):
        pickle.dumps(vectors)
    vectors.close()
    assert not folder.exists()


def test_a_temporary_store_is_persisted_as_a_folder(tmp_path: Path) -> None:
    with KosmosVectorStore(embedding_name="mock") as vectors:
        vectors.add([node(f"n{n}", n % 4, page=n) for n in range(20)])
        vectors.persist(str(tmp_path / "store"))
        vectors.delete_nodes(["n0"])
        vectors.persist(str(tmp_path / "store"))
        kept = [found.to_dict() for found in vectors.get_nodes()]
    with KosmosVectorStore(tmp_path / "store", embedding_name="mock") as again:
        assert [found.to_dict() for found in again.get_nodes()] == kept
        assert nearest(again, 3, similarity_top_k=1) != nearest(again, 2, similarity_top_k=1)
        again.persist(str(tmp_path / "other"))  # it is on disk already
    assert not (tmp_path / "other").exists()


def test_a_store_of_another_model_is_refused(tmp_path: Path) -> None:
    with KosmosVectorStore(tmp_path / "store", embedding_name="one") as vectors:
        vectors.add([node("a", 0)])
    with pytest.raises(StoreMismatch, match=r"'one'.*'two'"):
        KosmosVectorStore(tmp_path / "store", embedding_name="two")
    with KosmosVectorStore(tmp_path / "store") as vectors:
        assert nearest(vectors, 0) == ["a"]


def test_a_folder_of_the_command_line_can_be_asked(tmp_path: Path) -> None:
    loader = PassageLoader(reader=scripted())
    documents = KosmosReader(reader=scripted()).load_data(book(tmp_path / "book.tif", 2))
    from kosmos_loader.document import Chunk

    with Store.open(tmp_path / "store") as store:
        passages = loader.load(tmp_path / "book.tif")
        store.add(Chunk.from_metadata(passage.text, passage.metadata) for passage in passages)
    with KosmosVectorStore(tmp_path / "store") as vectors:
        found = vectors.query(asked("text_search", query_str="page 2")).nodes or []
        assert (found[0].node_id, found[0].get_content()) == (documents[1].id_, "This is page 2.")
        assert found[0].metadata == documents[1].metadata
        assert "spans" in found[0].excluded_llm_metadata_keys
        vector = HashEmbedder().embed_query("This is page 1.").tolist()
        assert vectors.query(VectorStoreQuery(query_embedding=vector)).ids == [documents[0].id_]
        vectors.delete(str(documents[0].metadata["doc_id"]))
        assert vectors.get_nodes() == []


def test_threads_that_add_first_share_one_store(tmp_path: Path) -> None:
    with KosmosVectorStore(tmp_path / "store") as vectors:
        adding = [
            threading.Thread(target=vectors.add, args=([node(f"n{n}", n % 4)],)) for n in range(8)
        ]
        for thread in adding:
            thread.start()
        for thread in adding:
            thread.join()
        assert len(vectors.get_nodes()) == 8


# The event loop


class Gated(KosmosVectorStore):
    """A store that does nothing before the gate is open."""

    def __init__(self, gate: threading.Event) -> None:
        super().__init__()
        self._gate = gate

    def _wait(self) -> None:
        assert self._gate.wait(timeout=20), "the event loop did not go on"

    def add(self, *args: Any, **kwargs: Any) -> Any:
        self._wait()
        return super().add(*args, **kwargs)

    def delete(self, *args: Any, **kwargs: Any) -> Any:
        self._wait()
        return super().delete(*args, **kwargs)

    def delete_nodes(self, *args: Any, **kwargs: Any) -> Any:
        self._wait()
        return super().delete_nodes(*args, **kwargs)

    def clear(self) -> None:
        self._wait()
        super().clear()

    def get_nodes(self, *args: Any, **kwargs: Any) -> Any:
        self._wait()
        return super().get_nodes(*args, **kwargs)

    def query(self, *args: Any, **kwargs: Any) -> Any:
        self._wait()
        return super().query(*args, **kwargs)


@pytest.mark.parametrize(
    ("call", "left"),
    [
        (lambda vectors: vectors.async_add([node("c", 2)]), "abc"),
        (lambda vectors: vectors.adelete("log"), "a"),
        (lambda vectors: vectors.adelete_nodes(["a"]), "b"),
        (lambda vectors: vectors.adelete_nodes(filters=where(("page", "==", 2))), "a"),
        (lambda vectors: vectors.aclear(), ""),
        (lambda vectors: vectors.aget_nodes(["a"]), "ab"),
        (lambda vectors: vectors.aquery(VectorStoreQuery(query_embedding=AXES[0])), "ab"),
    ],
    ids=["add", "delete", "delete_nodes", "delete_by_filter", "clear", "get_nodes", "query"],
)
async def test_the_event_loop_goes_on_meanwhile(
    call: Callable[[KosmosVectorStore], Any], left: str
) -> None:
    gate = threading.Event()
    gate.set()
    with Gated(gate) as vectors:
        vectors.add([node("a", 0, page=1), node("b", 1, of="log", page=2)])
        gate.clear()
        working = asyncio.ensure_future(call(vectors))
        await asyncio.sleep(0.01)
        assert not working.done()
        gate.set()  # only a loop that goes on comes here
        await working
        assert [found.node_id for found in vectors.get_nodes()] == list(left)


# Indexes and pipelines


class HashEmbedding(BaseEmbedding):
    def _get_text_embedding(self, text: str) -> list[float]:
        return HashEmbedder(256).embed_query(text).tolist()

    def _get_query_embedding(self, query: str) -> list[float]:
        return self._get_text_embedding(query)

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return self._get_text_embedding(query)


def pages_of(path: Path) -> list[Any]:
    return KosmosReader(reader=scripted(), mode="page").load_data(path)


def test_an_index_answers_from_the_folder(tmp_path: Path) -> None:
    documents = pages_of(book(tmp_path / "book.tif", 4))
    with KosmosVectorStore(tmp_path / "store") as vectors:
        context = StorageContext.from_defaults(vector_store=vectors)
        built = VectorStoreIndex.from_documents(
            documents,
            storage_context=context,
            embed_model=HashEmbedding(),
            transformations=[KosmosNodeParser()],
        )
        built.delete_ref_doc(documents[3].id_)
        context.persist(tmp_path / "context")
    with KosmosVectorStore(tmp_path / "store") as vectors:
        index = VectorStoreIndex.from_vector_store(vectors, embed_model=HashEmbedding())
        for mode in ("default", "hybrid", "text_search", "mmr"):
            retriever = index.as_retriever(similarity_top_k=9, vector_store_query_mode=mode)
            found = retriever.retrieve("This is page 2.")
            assert found[0].text == "This is page 2."
            assert sorted(hit.metadata["page"] for hit in found) == [1, 2, 3]
            assert found[0].node.ref_doc_id == documents[1].id_
        filtered = index.as_retriever(filters=where(("page", ">", 2)))
        assert [hit.metadata["page"] for hit in filtered.retrieve("This is page 2.")] == [3]


async def test_an_index_works_without_blocking(tmp_path: Path) -> None:
    documents = pages_of(book(tmp_path / "book.tif", 3))
    with KosmosVectorStore() as vectors:
        index = VectorStoreIndex.from_vector_store(vectors, embed_model=HashEmbedding())
        for document in documents:
            await index.ainsert(document)
        found = await index.as_retriever(similarity_top_k=1).aretrieve("This is page 3.")
        assert [hit.text for hit in found] == ["This is page 3."]
        await index.adelete_ref_doc(documents[2].id_)
        assert len(await vectors.aget_nodes()) == 2


def test_a_pipeline_that_is_run_twice_adds_nothing_the_second_time(tmp_path: Path) -> None:
    path, docstore = book(tmp_path / "book.tif", 3), SimpleDocumentStore()

    def run(vectors: KosmosVectorStore) -> list[str]:
        pipeline = IngestionPipeline(
            transformations=[KosmosNodeParser(), MockEmbedding(embed_dim=4)],
            docstore=docstore,
            vector_store=vectors,
        )
        return [made.node_id for made in pipeline.run(documents=pages_of(path))]

    with KosmosVectorStore(tmp_path / "store") as vectors:
        first = run(vectors)
        assert sorted(first) == [kept.node_id for kept in vectors.get_nodes()]
        assert len(first) == 3
        assert run(vectors) == []
        # and where the document store was lost, nodes replace themselves
        docstore = SimpleDocumentStore()
        assert run(vectors) == first
        assert len(vectors.get_nodes()) == 3
