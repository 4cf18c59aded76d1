"""What a notebook shows of a page, a chunk, a hit and an answer: text, and the page with its boxes.

All is one piece of HTML with pictures inside: nothing is fetched, nothing runs, and text of a page
is escaped. Chunks do not hold their pages. The picture comes from the file, if that is still there
and its page is the one that was read; otherwise the text is shown, and why there is no picture.
Nothing here raises: a notebook has the rest of its cell to show.
"""

from __future__ import annotations

import base64
import html
import io
import re
from collections.abc import Callable, Iterable, Iterator
from functools import partial, wraps
from itertools import groupby
from pathlib import PurePath
from typing import TYPE_CHECKING, TypeVar

from kosmos_loader.document import REASONS, Answer, Chunk, Citation, Hit, Page, PageInfo
from kosmos_loader.drawing import draw_citations, draw_lines, draw_regions, pages_together
from kosmos_loader.loading import page_as_read

if TYPE_CHECKING:
    from PIL import Image

WIDTH = 720
"""Pixels of a page; two of them stand side by side where a quote runs over both."""

MAX_PICTURES = 3
"""Pictures of one chunk or answer; what is left out is said."""

QUALITY = 75
"""Of JPEG: a page of a scan is about 100 KB."""

_Thing = TypeVar("_Thing")


def _always(shown: Callable[[_Thing], str]) -> Callable[[_Thing], str]:
    """`shown`, or a line that says why not."""

    @wraps(shown)
    def safely(thing: _Thing) -> str:
        try:
            return shown(thing)
        except Exception as error:  # noqa: BLE001 - whatever it is, the notebook goes on
            return _frame(_small(f"{type(thing).__name__} cannot be shown: {error!r}"))

    return safely


@_always
def page_html(page: Page) -> str:
    """The page, with the lines of its text layer where it has one."""
    size = f"{page.width} × {page.height} pixels, {page.dpi:.0f} dpi"
    label = f"printed number {page.label}" if page.label else ""
    layer = f"text layer of {len(page.text_layer)} lines" if page.text_layer else ""
    title = _title(_where(page), size, label, layer)
    if page.error is not None:
        return _frame(title, _small(f"no picture: {page.error.message}"))
    return _frame(title, _picture(partial(_drawn, page), alt=_where(page)))


@_always
def chunk_html(chunk: Chunk) -> str:
    """The text, and the pages on which it stands with its lines marked."""
    return _chunk(chunk)


@_always
def hit_html(hit: Hit) -> str:
    """The score, the text, and the pages on which it stands with its lines marked."""
    return _chunk(hit.chunk, f"score {hit.score:.3f}")


@_always
def answer_html(answer: Answer) -> str:
    """The text, what rests on nothing underlined, and the quotes with the pages they stand on.

    A quote that runs over two pages is shown on both, side by side.
    """
    quotes = [
        f"<li>{_prose(f'“{citation.quote}”')}{_small(_place(citation))}</li>"
        for citation in answer.citations
    ]
    text = f'<pre style="{_PROSE};font-size:115%">{_marked(answer)}</pre>'
    listed = f'<ol style="margin:.8em 0;padding-left:1.8em">{"".join(quotes)}</ol>'
    together = pages_together(answer.citations)
    pictures = [_cited(answer, source, pages) for source, pages in together[:MAX_PICTURES]]
    return _frame(
        _title(answer.question, answer.model or ""),
        _beside([text, listed, *map(_small, answer.notes)], [*pictures, _left_out(len(together))]),
    )


# --- Pictures -------------------------------------------------------------------------------


def _drawn(page: Page) -> Image.Image:
    if page.text_layer:
        return draw_lines(page, page.text_layer, max_width=WIDTH)
    return draw_regions(page, (), max_width=WIDTH)


def _cited(answer: Answer, source: str, pages: tuple[int, ...]) -> str:
    chunks = [hit.chunk for hit in answer.hits]

    def drawn() -> Image.Image:
        found = [page_as_read(source, number, chunks) for number in pages]
        return draw_citations(found, answer.citations, max_width=WIDTH * len(found))

    numbers = ", ".join(map(str, pages))
    return _picture(drawn, alt=f"{PurePath(source).name}, page {numbers}")


def _chunk(chunk: Chunk, *about: str) -> str:
    pages = "" if chunk.page_end == chunk.page else f" to {chunk.page_end}"
    where = f"{PurePath(chunk.source).name}, page {chunk.page}{pages} of {chunk.page_count}"
    regions = chunk.boxes()
    numbers = sorted({page for page, _ in regions}) or [chunk.page]
    text = [f"<b>{_text(' > '.join(chunk.headings))}</b>"] if chunk.headings else []
    text.append(_prose(chunk.text))

    def drawn(number: int) -> Image.Image:
        page = page_as_read(chunk.source, number, [chunk])
        boxes = [box for on, box in regions if on == number]
        return draw_regions(page, boxes, max_width=WIDTH)

    pictures = [
        _picture(partial(drawn, number), alt=f"page {number}") for number in numbers[:MAX_PICTURES]
    ]
    return _frame(
        _title(*about, where, chunk.kind, *chunk.flags),
        _beside(text, [*pictures, _left_out(len(numbers))]),
    )


def _picture(drawn: Callable[[], Image.Image], *, alt: str) -> str:
    """The picture inside the HTML, or the reason why there is none."""
    try:
        picture = drawn()
        data = io.BytesIO()
        picture.save(data, "JPEG", quality=QUALITY)
    except Exception as error:  # noqa: BLE001 - the text is shown all the same
        return _small(f"no picture: {str(error) or type(error).__name__}")
    encoded = base64.b64encode(data.getvalue()).decode("ascii")
    return (
        f'<img src="data:image/jpeg;base64,{encoded}" alt="{_text(alt)}" width="{picture.width}" '
        f'style="max-width:100%;height:auto;border:1px solid #ccc;margin:4px 0">'
    )


def _left_out(count: int) -> str:
    left = count - MAX_PICTURES
    return _small(f"{left} more not shown") if left > 0 else ""


# --- Text -----------------------------------------------------------------------------------

_FRAME = (
    "font:14px/1.45 system-ui,sans-serif;color:#222;background:#fff;border:1px solid #ddd;"
    "border-radius:4px;padding:10px 12px;max-width:1200px;text-align:left"
)
_PROSE = (
    "white-space:pre-wrap;overflow-wrap:anywhere;font:inherit;color:inherit;background:none;"
    "border:0;padding:0;margin:0"
)
_UNDERLINE = "text-decoration:underline wavy #c33;text-underline-offset:3px"
_MARK = re.compile(r"(\[\d+(?:, \d+)*\])")
_UNSEEN = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def _frame(*parts: str) -> str:
    # the classes keep a notebook from setting prices in dollars as formulas
    classes = "kosmos-loader tex2jax_ignore mathjax_ignore"
    return f'<div class="{classes}" style="{_FRAME}">{"".join(parts)}</div>'


def _beside(text: Iterable[str], pictures: Iterable[str]) -> str:
    """Text with the pictures to its right, or below it where there is no room."""
    return (
        '<div style="display:flex;flex-wrap:wrap;gap:14px;align-items:flex-start">'
        f'<div style="flex:1 1 280px">{"".join(text)}</div>'
        f'<div style="flex:2 1 360px">{"".join(pictures)}</div></div>'
    )


def _title(*parts: str) -> str:
    shown = " · ".join(part for part in parts if part)
    return f'<pre style="{_PROSE};color:#666;margin-bottom:6px">{_text(shown)}</pre>'


def _prose(text: str) -> str:
    # formulas are set in all but <pre>
    return f'<pre style="{_PROSE}">{_text(text)}</pre>'


def _small(text: str) -> str:
    return f'<pre style="{_PROSE};color:#666;font-size:90%">{_text(text)}</pre>'


def _text(text: str) -> str:
    """`text` for HTML: escaped, without what a notebook cannot save."""
    encodable = text.encode("utf-8", "backslashreplace").decode("utf-8")
    return html.escape(_UNSEEN.sub("\ufffd", encodable))


def _marked(answer: Answer) -> str:
    """The text of `answer`, the numbers of its citations bold, what rests on nothing underlined."""
    return "".join(_runs(answer))


def _runs(answer: Answer) -> Iterator[str]:
    reasons = [""] * len(answer.text)
    for part in answer.unsupported:
        end = min(part.end, len(reasons))
        reasons[part.start : end] = [part.reason] * max(0, end - part.start)
    for reason, of_reason in groupby(range(len(reasons)), key=reasons.__getitem__):
        places = list(of_reason)
        piece = _text(answer.text[places[0] : places[-1] + 1])
        bold = _MARK.sub(r'<b style="color:#a60">\1</b>', piece)
        why = _text(REASONS.get(reason, reason))
        yield f'<span style="{_UNDERLINE}" title="{why}">{bold}</span>' if reason else bold


def _where(page: PageInfo) -> str:
    return f"{PurePath(page.source).name}, page {page.number} of {page.count}"


def _place(citation: Citation) -> str:
    pages = sorted({page for page, _ in citation.regions}) or [citation.page]
    unknown = "" if citation.regions else ", no place known"
    return f"{citation.source}, page {' and '.join(map(str, pages))}{unknown}"
