"""What holds for chunks of any pages, whatever the sizes: nothing is lost, and nothing moves."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kosmos_loader.chunking import MAX_SPANS, chunk, chunk_sentences
from kosmos_loader.document import Block, Chunk, PageInfo, Span
from kosmos_loader.geometry import Box

Place = tuple[int, Box]
Shape = tuple[Any, ...]
Pages = list[tuple[list[Shape], str]]
"""Shapes of the blocks of each page, and the digest of its picture."""


class Sheet:
    """A page on which lines are written one below the other, and the blocks made of them."""

    def __init__(self, page: PageInfo) -> None:
        self.page = page
        self.blocks: list[Block] = []
        self.lines: dict[Place, str] = {}

    def write(self, shape: Shape) -> None:
        match shape:
            case ("heading", level, line):
                self.add("heading", [("#" * level + " ", line)], level=level)
            case ("list", first, items):
                marks = ["" if first is None else f"{first + n}. " for n in range(len(items))]
                bullets = "- " if first is None else ""
                self.add(
                    "list",
                    [
                        ("\n" * (n > 0) + bullets, mark + item)
                        for n, (mark, item) in enumerate(zip(marks, items, strict=True))
                    ],
                )
            case ("table", head, rows):
                self.table(head, rows)
            case ("code", lines):
                fenced = [("```\n" if n == 0 else "\n", line) for n, line in enumerate(lines)]
                self.add("code", fenced, end="\n```")
            case ("unplaced", line):
                self.add("paragraph", [])
                self.blocks[-1] = replace(self.blocks[-1], markdown=line)
            case (kind, lines, gap):
                self.add(kind, [(gap * (n > 0), line) for n, line in enumerate(lines)])

    def table(self, head: list[str], rows: list[list[str]]) -> None:
        width = min(len(row) for row in rows)
        names = (head * width)[:width] if head else [""] * width
        pieces = []
        for number, row in enumerate([names, *rows]):
            before = {0: "| ", 1: f" |\n|{'---|' * width}\n| "}.get(number, " |\n| ")
            pieces += [(before if n == 0 else " | ", cell) for n, cell in enumerate(row[:width])]
        self.add("table", pieces, end=" |")

    def add(
        self, kind: str, pieces: Iterable[tuple[str, str]], *, level: int = 0, end: str = ""
    ) -> None:
        markdown, spans = "", []
        for marks, line in pieces:
            written = line.replace("|", "\\|")
            markdown += marks
            if line:
                row = len(self.lines) / 1000
                box = Box(0.1, row, 0.9, row + 0.001)
                self.lines[self.page.number, box] = line
                start = len(markdown)
                spans.append(Span(start, start + len(written), self.page.number, box))
            markdown += written
        markdown += end
        self.blocks.append(Block(self.page, kind, markdown, tuple(spans), level=level))


def sheets(pages: Pages, doc: str = "letters") -> list[Sheet]:
    made = []
    for number, (shapes, digest) in enumerate(pages, 1):
        sheet = Sheet(PageInfo(f"/{doc}.pdf", doc, number, 99, 1000, 1400, 120.0, digest))
        for shape in shapes:
            sheet.write(shape)
        made.append(sheet)
    return made


def blocks_of(pages: Iterable[Sheet]) -> list[list[Block]]:
    return [sheet.blocks for sheet in pages]


WORDS = [
    "a",
    "b.",
    "ab",
    "ba:",
    "Abe",
    "Gé.",
    "dagg",
    "hab-",
    "-",
    "1",
    "11",
    "1a",
    "a|b",
    "中1",
    "中",
]
WORDS += ["Habedag", "gehabdé.", "agabe|dag-", "BE"]
words = st.sampled_from(WORDS)
lines = st.lists(words, min_size=1, max_size=8).map(" ".join)
names = st.sampled_from([[], ["A", "Be"], ["A", "Be"], ["A", "11"]])
shapes = st.one_of(
    st.tuples(st.just("heading"), st.integers(1, 4), lines),
    st.tuples(
        st.sampled_from(["paragraph", "paragraph", "paragraph", "other", "header", "footer"]),
        st.lists(lines, min_size=1, max_size=6),
        st.sampled_from([" ", "\n"]),
    ),
    st.tuples(
        st.just("list"),
        st.sampled_from([None, 1, 2, 3]),
        st.lists(lines, min_size=1, max_size=3),
    ),
    st.tuples(
        st.just("table"),
        names,
        st.lists(st.lists(words, min_size=2, max_size=3), min_size=1, max_size=6),
    ),
    st.tuples(st.just("code"), st.lists(lines, min_size=1, max_size=4)),
    st.tuples(st.just("unplaced"), lines),
)
documents = st.lists(
    st.tuples(st.lists(shapes, max_size=4), st.sampled_from(["x", "y", ""])), max_size=5
)
sizes = st.integers(5, 300)
shares = st.floats(0, 0.5)


def bare(text: str) -> str:
    """The letters: no white space, escapes, and hyphens, which a word put together lacks."""
    return re.sub(r"[\s\\-]", "", text)


def is_tiled(line: str, pieces: list[str]) -> bool:
    """Whether `pieces`, in order and perhaps overlapping, make up `line`."""
    reached = 0
    for piece in pieces:
        starts = [at for at in range(reached + 1) if line.startswith(piece, at) and piece]
        reached = max([reached, *(at + len(piece) for at in starts)])
    return reached == len(line)


def assert_nothing_is_lost(chunks: list[Chunk], known: dict[Place, str]) -> None:
    pieces: dict[Place, list[str]] = defaultdict(list)
    for found in chunks:
        end = 0
        for span in found.spans:
            assert end <= span.start < span.end <= len(found.text)
            end = span.end
            piece = bare(found.text[span.start : span.end])
            assert piece in bare(known[span.page, span.box])
            pieces[span.page, span.box].append(piece)
    assert set(pieces) == set(known)
    assert all(is_tiled(bare(line), pieces[place]) for place, line in known.items())


@settings(max_examples=100)
@given(documents, sizes, shares)
def test_every_character_of_every_line_is_in_a_chunk_with_its_own_box(
    pages: Pages, size: int, share: float
) -> None:
    made = sheets(pages)
    known = {place: line for sheet in made for place, line in sheet.lines.items()}
    chunks = list(chunk(blocks_of(made), size=size, overlap=int(share * size)))
    assert_nothing_is_lost(chunks, known)
    assert {region for found in chunks for region in found.boxes()} == set(known)
    sentences = list(chunk_sentences(blocks_of(made), size=size))
    assert_nothing_is_lost(sentences, known)


def pairs(text: str) -> int:
    """As tokenizers do, joins some letters to one token, so that more text may count less."""
    return len(re.sub(r"ab|ba|\n\n|[dg]+ ", "x", text))


@settings(max_examples=100)
@given(
    documents,
    sizes,
    shares,
    st.sampled_from([len, pairs, lambda text: len(text.encode()), str.split]),
    st.one_of(st.none(), st.integers(0, 60)),
)
def test_no_chunk_is_larger_than_its_limit(
    pages: Pages,
    size: int,
    share: float,
    length: Callable[[str], Any],
    heading_size: int | None,
) -> None:
    def count(text: str) -> int:
        counted = length(text)
        return counted if isinstance(counted, int) else len(counted)

    made = blocks_of(sheets(pages))
    options: dict[str, Any] = {"size": size, "length": length, "heading_size": heading_size}
    chunks = [*chunk(made, overlap=int(share * size), **options), *chunk_sentences(made, **options)]
    for found in chunks:
        assert count(found.text) <= size
        assert len(found.spans) <= MAX_SPANS
        if heading_size is not None:
            assert count(" > ".join(found.headings)) <= heading_size
            assert count(found.embedded_text) <= size + heading_size


@settings(max_examples=100)
@given(documents, sizes)
def test_a_chunk_says_on_which_pages_it_stands(pages: Pages, size: int) -> None:
    placed = [
        ([s for s in shapes if s[0] != "unplaced"], digest or "z") for shapes, digest in pages
    ]
    made = sheets(placed)
    orders: dict[int, list[int]] = defaultdict(list)
    for found in chunk(blocks_of(made), size=size):
        on = [span.page for span in found.spans]
        assert on == sorted(on)
        assert 1 <= found.page <= found.page_end <= len(pages)
        orders[found.page].append(found.order)
        # the names of columns may be repeated from a page before
        assert found.page == on[0] or (found.kind == "table" and on[0] < found.page)
        assert found.page_end == on[-1]
        assert set(on) == {number for number, _ in found.digests}
    assert all(numbers == list(range(len(numbers))) for numbers in orders.values())


@settings(max_examples=100)
@given(documents, documents, sizes, shares)
def test_pages_blocks_and_documents_in_one_stream_give_the_same_chunks(
    first: Pages, second: Pages, size: int, share: float
) -> None:
    options = {"size": size, "overlap": int(share * size)}
    a, b = blocks_of(sheets(first, "a")), blocks_of(sheets(second, "b"))
    alone = [*chunk(a, **options), *chunk(b, **options)]
    assert list(chunk([*a, *b], **options)) == alone
    assert list(chunk([block for page in [*a, *b] for block in page], **options)) == alone
    assert len({found.chunk_id for found in alone}) == len(alone)


def is_number(block: Block) -> bool:
    return re.fullmatch("1{1,4}", block.markdown) is not None


def near_border(before: list[Block], after: list[Block]) -> set[Place]:
    """The lines of the last block before a border of pages, and of what goes on behind it.

    What goes on is the first block, and what a paragraph that was taken for several has left.
    """
    foot = [block for block in before if block.kind not in ("header", "footer")]
    head = [block for block in after if block.kind not in ("header", "footer")]
    near: list[Block] = []
    while foot and is_number(foot[-1]):
        near.append(foot.pop())
    while head and is_number(head[0]):
        near.append(head.pop(0))
    near += [*foot[-1:], *head[:1]]
    for block in head[1:]:
        if block.kind != "paragraph" or not block.markdown[0].islower():
            break
        near.append(block)
    return {region for block in near for region in block.regions}


@settings(max_examples=150)
@given(documents, documents, documents, sizes, shares)
def test_pages_put_into_the_middle_change_only_what_runs_over_that_place(
    before: Pages, new: Pages, after: Pages, size: int, share: float
) -> None:
    # a page that is the copy of another one has its digest, and the two may change places
    before, after = (
        [
            ([s for s in shapes if s[0] != "unplaced"], f"{name}{n}")
            for n, (shapes, _) in enumerate(pages)
        ]
        for name, pages in (("before", before), ("after", after))
    )
    new = [(shapes, f"new{n}") for n, (shapes, _) in enumerate(new)]
    options = {"size": size, "overlap": int(share * size)}
    old_sheets, grown_sheets = sheets([*before, *after]), sheets([*before, *new, *after])
    old, grown = (list(chunk(blocks_of(made), **options)) for made in (old_sheets, grown_sheets))
    assert old == list(chunk(blocks_of(old_sheets), **options))

    def settled(chunks: list[Chunk], made: list[Sheet], borders: Iterable[int]) -> set[str]:
        near: set[Place] = set()
        for border in borders:
            foot, head = made[max(0, border - 1) : border], made[border : border + 1]
            near |= near_border(*([b for s in side for b in s.blocks] for side in (foot, head)))
        return {c.chunk_id for c in chunks if not near.intersection(c.boxes())}

    at, end = len(before), len(before) + len(new)
    fresh = range(at + 1, end + 1)
    stayed = settled(old, old_sheets, [at])
    ids = {found.chunk_id for found in grown}
    assert len(ids) == len(grown)
    assert stayed <= ids
    elsewhere = [found for found in grown if found.page not in fresh]
    assert settled(elsewhere, grown_sheets, [at, end]) <= {found.chunk_id for found in old}


def test_the_border_property_can_fail() -> None:
    """The lines near a border are few: the property says something about all others."""
    [one, two] = sheets(
        [
            ([("paragraph", ["A b."], " "), ("paragraph", ["A b"], " ")], "1"),
            ([("paragraph", ["b a."], " "), ("paragraph", ["A b."], " ")], "2"),
        ]
    )
    near = near_border(one.blocks, two.blocks)
    assert near == {*one.blocks[1].regions, *two.blocks[0].regions}
    [joined, rest] = chunk(blocks_of([one, two]))
    assert (joined.page, joined.page_end) == (1, 2)
    assert not near.intersection(rest.boxes())


@pytest.mark.parametrize("size", [50, 200])
@pytest.mark.parametrize("line", ["ab ba. A" * 6, "ab ba A " * 6, "ab" * 24])
def test_growth_is_linear_from_sixty_to_a_thousand_lines(line: str, size: int) -> None:
    def cost(count: int) -> float:
        measured = 0

        def length(text: str) -> int:
            nonlocal measured
            measured += len(text)
            return len(text)

        [sheet] = sheets([([("paragraph", [line] * count, " ")], "x")])
        assert sum(1 for _ in chunk(blocks_of([sheet]), size=size, length=length)) > count / 8
        return measured / count

    assert cost(1000) < 1.3 * cost(60)
