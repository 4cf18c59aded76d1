"""The stations of the line: Page, Reading, Block, Chunk, Hit, Answer and what they are made of.

All types are frozen. All but `Page` (which holds pixels) turn into plain JSON with `to_dict` and
come back equal with `from_dict`; the outermost dict carries the schema version, so that what was
saved is either read rightly years later or refused clearly.

No type reaches back up the line. A page that failed travels down it as a value (`Page.error`,
`Reading.error`), never as text and never as an exception that loses its neighbours.
"""

from __future__ import annotations

import hashlib
import json
import math
import sys
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from kosmos_loader.errors import KosmosLoaderError, UsageError
from kosmos_loader.geometry import Box, Quad, distinct, union

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL import Image

SCHEMA = 1
"""Version of the dicts that `to_dict` writes and `from_dict` reads."""

FLAGS = ("blank", "truncated", "repetition", "disagreement", "unplaced", "low_confidence")
"""What a reading may be warned about; chunks inherit the flags of their pages."""


def ordered_flags(raised: Iterable[str]) -> tuple[str, ...]:
    """Each of the `raised` flags once, sorted as in `FLAGS`; others behind them, by name."""
    known = set(raised)
    return (*(flag for flag in FLAGS if flag in known), *sorted(known.difference(FLAGS)))


METADATA_BYTES = 10_240
"""What the strictest vector stores take as metadata of one entry (Cloudflare Vectorize)."""

MAX_DIGESTS = 20
"""Pages whose digests are in the metadata of a chunk, the first ones: 0.8 KB."""

GEOMETRY_KEYS = ("page_width", "page_height", "bbox", "boxes", "spans")
"""Metadata keys that belong neither into an embedding nor before a language model."""

Region = tuple[int, Box]
"""A page number (from 1) and a box on that page."""


class Record:
    """`to_dict` and `from_dict` for the frozen dataclasses of this module."""

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values (dict, list, str, numbers, None), with the schema version."""
        encoded: dict[str, Any] = _encode(self)
        return {"schema": SCHEMA, **encoded}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """The record that `to_dict` wrote; `UsageError` for one of another schema, or broken."""
        if data.get("schema") != SCHEMA:
            raise UsageError(
                f"this {cls.__name__} was saved with schema {data.get('schema')!r}, and this "
                f"version reads schema {SCHEMA}; index the files again"
            )
        try:
            decoded: Self = _decode(cls, data)
        except (TypeError, ValueError, LookupError, AttributeError) as error:
            raise UsageError(f"this is no {cls.__name__} that was saved: {error}") from error
        return decoded


def _encode(value: Any) -> Any:
    if isinstance(value, Box):
        return list(value.as_tuple())
    if isinstance(value, Record):
        return {f.name: _encode(getattr(value, f.name)) for f in fields(value)}  # type: ignore[arg-type]
    if isinstance(value, tuple):
        return [_encode(item) for item in value]
    return value


def _decode(kind: Any, value: Any) -> Any:
    if value is None:
        return None
    if isinstance(kind, type) and issubclass(kind, Box):
        return Box(*value)
    if isinstance(kind, type) and issubclass(kind, Record):
        return _decode_record(kind, value)
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        return _decode(next(a for a in arguments if a is not type(None)), value)
    if origin is tuple and arguments[-1] is Ellipsis:
        return tuple(_decode(arguments[0], item) for item in value)
    if origin is tuple:
        return tuple(_decode(a, item) for a, item in zip(arguments, value, strict=True))
    return value


def _decode_record(kind: Any, value: Mapping[str, Any]) -> Any:
    known = {name: hint for name, hint in _hints(kind).items() if name in value}
    return kind(**{name: _decode(hint, value[name]) for name, hint in known.items()})


@cache
def _hints(kind: Any) -> dict[str, Any]:
    hints = typing.get_type_hints(kind)
    return {f.name: hints[f.name] for f in fields(kind)}


@dataclass(frozen=True, slots=True)
class Failure(Record):
    """Why a page or a file came to nothing."""

    type: str
    """The kind of error, as in `errors.py`: "encrypted", "corrupt", "reading", ..."""

    message: str
    """What happened and what to do next."""

    @classmethod
    def of(cls, error: Exception) -> Failure:
        """The failure that `error` stands for."""
        kind = error.kind if isinstance(error, KosmosLoaderError) else type(error).__name__
        return cls(kind, str(error) or type(error).__name__)


@dataclass(frozen=True, slots=True)
class Line(Record):
    """One line of text and its place on the page."""

    text: str
    box: Box
    confidence: float | None = None
    """0..1 as the reader gave it, None where it gives none; `ValueError` for NaN and infinity."""

    quad: Quad | None = None
    """The four corners in page fractions where the line is slanted or stands on its side; text
    start top, text end top, text end bottom, text start bottom."""

    flags: tuple[str, ...] = ()
    """"degenerate" for a box without area."""

    def __post_init__(self) -> None:
        if self.confidence is not None and not math.isfinite(self.confidence):
            raise ValueError(f"a confidence of {self.confidence}: want 0 to 1, or None")


@dataclass(frozen=True)
class PageInfo(Record):
    """Which page of which file, and its measures: all of a `Page` but its pixels."""

    source: str
    """Absolute path as it was given, or the name of a stream."""

    doc_id: str
    """Stable id of the document, from its source."""

    number: int
    """From 1. 0 stands for the file as a whole, when it could not be opened."""

    count: int
    """Pages in the file."""

    width: int
    """Pixels, of the page as a person sees it."""

    height: int
    """Pixels, of the page as a person sees it."""

    dpi: float
    """Pixels per inch of the paper at which the page was rendered or scanned."""

    digest: str = ""
    """Hex digest of the upright pixels; the same picture in two files has the same digest."""

    label: str | None = None
    """The page number printed in a PDF's page labels ("iv", "A-2"), where the file has any."""


@dataclass(frozen=True, eq=False)
class Page(PageInfo):
    """A page with its pixels: upright, RGB, on white."""

    pixels: NDArray[np.uint8] = field(
        default_factory=lambda: np.zeros((0, 0, 3), np.uint8), repr=False
    )
    """[height, width, 3], RGB."""

    text_layer: tuple[Line, ...] = field(default=(), repr=False)
    """Lines that the file itself carries: born-digital text, or a scan's old OCR layer."""

    document_info: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Title, author and the like, where the file has them."""

    error: Failure | None = None
    """Why there are no pixels."""

    def __post_init__(self) -> None:
        if self.error is None and self.pixels.shape != (self.height, self.width, 3):
            raise ValueError(
                f"pixels are {self.pixels.shape}, want ({self.height}, {self.width}, 3)"
            )

    @property
    def image(self) -> Image.Image:
        """The pixels as a Pillow image."""
        from PIL import Image

        return Image.fromarray(self.pixels)

    def _repr_html_(self) -> str:
        """The page as a notebook shows it."""
        from kosmos_loader.showing import page_html

        return page_html(self)

    @property
    def info(self) -> PageInfo:
        """The page without its pixels."""
        return PageInfo(**{f.name: getattr(self, f.name) for f in fields(PageInfo)})


def page_digests(pages: Iterable[PageInfo]) -> tuple[tuple[int, str], ...]:
    """Number and digest of each of `pages` once, in order: what `Chunk.digests` holds."""
    return tuple(sorted({(page.number, page.digest) for page in pages if page.digest}))


def pixel_digest(pixels: NDArray[np.uint8]) -> str:
    """Hex digest (128 bits) of a picture's shape and pixels."""
    digest = hashlib.blake2b(repr(pixels.shape).encode(), digest_size=16)
    digest.update(np.ascontiguousarray(pixels).data)
    return digest.hexdigest()


def stable_id(*parts: str, size: int = 16) -> str:
    """Hex digits of `size` bytes that follow from `parts`, whatever these hold."""
    key = "\0".join(parts)
    try:
        data = key.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # half of a surrogate pair that stands for no byte
        data = key.encode("utf-8", "surrogatepass")
    return hashlib.blake2b(data, digest_size=size).hexdigest()


def document_id(source: str) -> str:
    """Stable id of the document at `source`.

    It follows the path and not the contents: inserting a page must change no other chunk's id.
    """
    return stable_id(source, size=8)


@dataclass(frozen=True, slots=True)
class Reading(Record):
    """What a reader saw on a page: lines with boxes, markdown, or both."""

    page: PageInfo
    reader: str
    reader_version: str
    lines: tuple[Line, ...] = ()
    """In reading order."""

    markdown: str | None = None
    """The page as markdown, where the reader writes it itself."""

    angle: float = 0.0
    """Degrees by which the text is turned clockwise on the page: 90 on a page whose lines run from
    top to bottom, 2.5 on a slightly skewed one. Turning the page back by it makes it upright."""

    flags: tuple[str, ...] = ()
    """Out of `FLAGS`, sorted as there."""

    rejected: int = 0
    """Pieces of the reader's output that could not be understood."""

    error: Failure | None = None

    @classmethod
    def failed(cls, page: PageInfo, reader: str, reader_version: str, error: Failure) -> Reading:
        """The reading of a page that could not be read."""
        info = page.info if isinstance(page, Page) else page
        return cls(info, reader, reader_version, error=error)


@dataclass(frozen=True, slots=True)
class Span(Record):
    """Characters `start..end` of a text lie in `box` on `page`: a line, or a table cell."""

    start: int
    end: int
    page: int
    box: Box

    def shifted(self, by: int) -> Span:
        """The span in a text that has `by` more characters before it."""
        return replace(self, start=self.start + by, end=self.end + by)

    def within(self, start: int, end: int) -> Span | None:
        """The part of the span inside `start..end`, counted from `start`; None if there is none."""
        left, right = max(self.start, start), min(self.end, end)
        if left >= right:
            return None
        return replace(self, start=left - start, end=right - start)


def regions(spans: Iterable[Span]) -> list[Region]:
    """Each (page, box) of `spans` once, in order."""
    return list(dict.fromkeys((span.page, span.box) for span in spans))


BLOCK_KINDS = (
    "heading",
    "paragraph",
    "list",
    "table",
    "code",
    "header",
    "footer",
    "other",
)
"""What a block can be. `header` and `footer` are the running lines at the edge of a page."""


@dataclass(frozen=True, slots=True)
class Block(Record):
    """A heading, paragraph, list or table of a page as markdown, with the lines it is made of."""

    page: PageInfo
    kind: str
    """Out of `BLOCK_KINDS`."""

    markdown: str
    spans: tuple[Span, ...]
    """Places of the characters of `markdown`, in order; marks lie in none."""

    level: int = 0
    """1..6 for a heading, 0 otherwise."""

    order: int = 0
    """Place of the block on its page, from 0, in reading order."""

    confidence: float | None = None
    """Mean of the lines' confidences, by characters."""

    reader: str = ""
    reader_version: str = ""
    flags: tuple[str, ...] = ()

    @property
    def regions(self) -> list[Region]:
        """Each (page, box) of the block once, in order."""
        return regions(self.spans)


@dataclass(frozen=True, slots=True)
class Chunk(Record):
    """A piece of a document of a size to embed, in which every character knows its place."""

    text: str
    """Markdown, as shown; what is embedded is `embedded_text`."""

    spans: tuple[Span, ...]
    """Places of the characters of `text`, in order and without overlaps."""

    source: str
    doc_id: str
    chunk_id: str
    """Stable: from doc_id, the pixel digest of `page`, the part of it, and the text."""

    page: int
    """The page on which the chunk starts, from 1; what it repeats from before does not count."""

    page_end: int
    """The page on which it ends."""

    page_count: int
    page_width: int
    """Pixels, of `page`."""

    page_height: int
    """Pixels, of `page`."""

    order: int = 0
    """Place of the chunk among those that start on `page`, from 0."""

    kind: str = "paragraph"
    """The kind of its blocks, "mixed" where they differ."""

    headings: tuple[str, ...] = ()
    """Path of the headings above the chunk, outermost first."""

    confidence: float | None = None
    flags: tuple[str, ...] = ()
    reader: str = ""
    reader_version: str = ""
    digests: tuple[tuple[int, str], ...] = ()
    """Number and `PageInfo.digest` of the pages it stands on, as far as they are known: whether a
    file still holds the page that was read."""

    def boxes(self, start: int = 0, end: int | None = None) -> list[Region]:
        """Where characters `start..end` of `text` stand on paper: (page, box), each once."""
        stop = len(self.text) if end is None else end
        return regions(span for span in self.spans if span.start < stop and span.end > start)

    @property
    def bbox(self) -> Box | None:
        """The smallest box on `page` that holds all of the chunk's lines there."""
        boxes = distinct(span.box for span in self.spans if span.page == self.page)
        return union(boxes) if boxes else None

    @property
    def support(self) -> float:
        """Share of the characters other than white space that lie in a span, 0..1."""
        supported = [False] * len(self.text)
        for span in self.spans:
            supported[span.start : span.end] = [True] * (span.end - span.start)
        letters = [
            s for s, character in zip(supported, self.text, strict=True) if not character.isspace()
        ]
        return sum(letters) / len(letters) if letters else 0.0

    @property
    def embedded_text(self) -> str:
        """Headings and text: what an embedder and the lexical index are given."""
        return "\n".join([" > ".join(self.headings), self.text]) if self.headings else self.text

    def _repr_html_(self) -> str:
        """Text and page, as a notebook shows them."""
        from kosmos_loader.showing import chunk_html

        return chunk_html(self)

    def metadata(self) -> dict[str, str | int | float]:
        """Flat metadata that every vector store takes: scalars, short strings, under 10 KB UTF-8.

        Where the spans would not fit, neighbours on a page are joined (each character then lies in
        a larger box, never in a wrong one), and beyond that they are left out.
        """
        flat: dict[str, str | int | float] = {
            "source": self.source,
            "doc_id": self.doc_id,
            "chunk_id": self.chunk_id,
            "page": self.page,
            "page_end": self.page_end,
            "page_count": self.page_count,
            "order": self.order,
            "kind": self.kind,
            "headings": " > ".join(self.headings)[:500],
            "page_width": self.page_width,
            "page_height": self.page_height,
            "bbox": ",".join(_short(side) for side in self.bbox.as_tuple()) if self.bbox else "",
            "confidence": round(self.confidence, 4) if self.confidence is not None else -1.0,
            "support": round(self.support, 4),
            "flags": ",".join(self.flags),
            "reader": self.reader,
            "reader_version": self.reader_version,
            "digests": ",".join(
                f"{number}:{digest}" for number, digest in self.digests[:MAX_DIGESTS]
            ),
            "text_digest": _text_digest(self.text),
        }
        room = (
            METADATA_BYTES
            - 64
            - len(json.dumps(flat, ensure_ascii=False).encode("utf-8", "backslashreplace"))
        )
        return flat | _geometry(self.spans, room)

    @classmethod
    def from_metadata(
        cls, text: str, metadata: Mapping[str, Any], *, chunk_id: str | None = None
    ) -> Self:
        """The chunk that `metadata()` was made from, with boxes rounded to 5 digits.

        Keys that are missing, or of another type than there, get what a chunk without them would
        have: page 1, no headings, no spans; page 3.0 is page 3. Spans that do not fit the text are
        left out, and a heading path of over 500 characters comes back cut. `chunk_id` goes before
        the metadata's.

        Where `text` is another one than it was, such as a piece that a splitter cut off, nobody
        knows which of the spans are its own: all of it lies in the box around them then, or nowhere
        if they stand on several pages.
        """
        page = _count(metadata, "page", 1)
        page_end = _count(metadata, "page_end", page)
        confidence = metadata.get("confidence")
        known = isinstance(confidence, int | float) and 0 <= confidence <= 1
        is_same = metadata.get("text_digest", _text_digest(text)) == _text_digest(text)
        return cls(
            text=text,
            spans=(_spans_of if is_same else _span_around)(metadata.get("spans"), len(text)),
            source=_word(metadata, "source"),
            doc_id=_word(metadata, "doc_id"),
            chunk_id=_word(metadata, "chunk_id") if chunk_id is None else chunk_id,
            page=page,
            page_end=page_end,
            page_count=_count(metadata, "page_count", page_end),
            page_width=_count(metadata, "page_width", 0),
            page_height=_count(metadata, "page_height", 0),
            order=_count(metadata, "order", 0),
            kind=_word(metadata, "kind", "paragraph"),
            headings=tuple(filter(None, _word(metadata, "headings").split(" > "))),
            confidence=confidence if known else None,
            flags=tuple(filter(None, _word(metadata, "flags").split(","))),
            reader=_word(metadata, "reader"),
            reader_version=_word(metadata, "reader_version"),
            digests=_digests_of(_word(metadata, "digests")),
        )


def _word(metadata: Mapping[str, Any], key: str, default: str = "") -> str:
    value = metadata.get(key)
    return value if isinstance(value, str) else default


def _count(metadata: Mapping[str, Any], key: str, default: int) -> int:
    value = metadata.get(key)
    if isinstance(value, float) and value.is_integer():
        return int(value)  # some vector stores keep every number as a float
    return value if type(value) is int else default


def _digests_of(written: str) -> tuple[tuple[int, str], ...]:
    pairs = (entry.partition(":") for entry in written.split(","))
    return tuple(
        (int(n), digest) for n, _, digest in pairs if n.isdecimal() and len(n) < 10 and digest
    )


def _spans_of(rows: Any, length: int) -> tuple[Span, ...]:
    """The spans that `metadata()` wrote as JSON, those that fit a text of `length` in order."""
    spans: list[Span] = []
    try:
        for start, end, page, *sides in json.loads(rows):
            is_place = all(type(number) is int for number in (start, end, page))
            if not is_place or not math.isfinite(sum(sides)):
                return ()
            if (spans[-1].end if spans else 0) <= start < end <= length:
                spans.append(Span(start, end, page, Box(*sides)))
    except (TypeError, ValueError, RecursionError):
        return ()
    return tuple(spans)


def _span_around(rows: Any, length: int) -> tuple[Span, ...]:
    """All of a text of `length` that is part of what `rows` are of, or an other than that."""
    spans = _spans_of(rows, sys.maxsize)
    if not length or len({span.page for span in spans}) != 1:
        return ()
    return (Span(0, length, spans[0].page, union([span.box for span in spans])),)


def _text_digest(text: str) -> str:
    return stable_id(text, size=8)


def _short(side: float) -> str:
    return f"{side:.5f}".rstrip("0").rstrip(".")


def _geometry(spans: Sequence[Span], room: int) -> dict[str, str]:
    """`boxes` and `spans` as JSON of at most `room` bytes together."""
    while True:
        boxes = "[" + ",".join(_row(page, box) for page, box in regions(spans)) + "]"
        rows = "[" + ",".join(f"[{s.start},{s.end},{_row(s.page, s.box)[1:]}" for s in spans) + "]"
        if len(boxes) + len(rows) <= room:
            return {"boxes": boxes, "spans": rows}
        coarser = _joined_pairs(spans)
        if len(coarser) == len(spans):
            return {"boxes": "[]", "spans": "[]"}
        spans = coarser


def _row(page: int, box: Box) -> str:
    return "[" + ",".join([str(page), *(_short(side) for side in box.as_tuple())]) + "]"


def _joined_pairs(spans: Sequence[Span]) -> list[Span]:
    joined: list[Span] = []
    pairing = False
    for span in spans:
        if pairing and joined[-1].page == span.page:
            last = joined.pop()
            joined.append(replace(last, end=span.end, box=union([last.box, span.box])))
            pairing = False
        else:
            joined.append(span)
            pairing = True
    return joined


@dataclass(frozen=True, slots=True)
class Hit(Record):
    """A chunk that a search found."""

    chunk: Chunk
    score: float
    """0..1, higher is better; `Store.search` states what it means."""

    def _repr_html_(self) -> str:
        """Score, text and page, as a notebook shows them."""
        from kosmos_loader.showing import hit_html

        return hit_html(self)


@dataclass(frozen=True, slots=True)
class Citation(Record):
    """Words of a page that an answer rests on, and where they stand."""

    quote: str
    source: str
    page: int
    """The page on which the quote starts, from 1."""

    regions: tuple[Region, ...]
    """The lines that hold the quote: (page, box)."""

    chunk_id: str
    start: int = 0
    """Where the quote starts in the chunk's text."""

    end: int = 0


REASONS = {
    "uncited": "a sentence without a citation that holds",
    "unquoted": "a number or date that is not in the words its sentence cites",
    "asked": "a number or date of the question that is not in the words its sentence cites",
}
"""Why a part of an answer is unsupported."""


@dataclass(frozen=True, slots=True)
class Unsupported(Record):
    """Characters `start..end` of an answer's text that none of its citations bears out."""

    start: int
    end: int
    reason: str
    """Out of `REASONS`: "uncited" for a sentence without a citation that holds, "unquoted" for a
    number or date that is not in the words its sentence cites, "asked" for one that is only in the
    question."""


@dataclass(frozen=True, slots=True)
class Answer(Record):
    """An answer and the citations it rests on."""

    SILENT: ClassVar[str] = "Nothing in the archive answers this."

    question: str
    text: str
    citations: tuple[Citation, ...]
    hits: tuple[Hit, ...]
    model: str | None = None
    """Name of the chat model that wrote the text, None where passages are quoted as they are."""

    abstained: bool = False
    """True where nothing that was found is near enough to the question."""

    notes: tuple[str, ...] = ()
    """What the reader of the answer should know: no model configured, a citation dropped."""

    unsupported: tuple[Unsupported, ...] = ()
    """What of a chat model's text rests on no citation, in order; numbers may lie in sentences."""

    def _repr_html_(self) -> str:
        """The answer with the cited pages, as a notebook shows them."""
        from kosmos_loader.showing import answer_html

        return answer_html(self)
