"""Pictures that the commands draw: a page with what was read on it, or with what was cited."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from kosmos_loader.cli import terminal
from kosmos_loader.errors import KosmosLoaderError, UsageError

if TYPE_CHECKING:
    from PIL import Image

    from kosmos_loader.document import Answer, Citation, Page, Reading
    from kosmos_loader.store import Store


def draw_citations(found: Answer, out: Path, store: Store, *, password: str | None = None) -> None:
    """Draw each cited page once, with all its quotes marked, to `out`, then to OUT-2, OUT-3, ...

    Pages that one quote runs over are drawn side by side. A page that no longer shows what was read
    is not drawn: the quote may stand elsewhere now, or nowhere. What could not be
    drawn is raised at the end, as `conclude` does.
    """
    from kosmos_loader.drawing import draw_citations, pages_together
    from kosmos_loader.loading import page_as_read

    together = pages_together(found.citations)
    sources = {summary.source for summary in store.sources()} | {source for source, _ in together}
    chunks = [hit.chunk for hit in found.hits]
    failed: list[KosmosLoaderError] = []
    drawn = 0
    for source, numbers in together:
        try:
            pages = [page_as_read(source, n, chunks, password=password) for n in numbers]
        except KosmosLoaderError as error:
            failed.append(error)
            continue
        drawn += 1
        path = out if drawn == 1 else out.with_stem(f"{out.stem}-{drawn}")
        terminal.check_not_a_source(path, sources)
        caption = _caption(found.citations, source, numbers)
        _save(draw_citations(pages, found.citations, caption), path)
    if not together:
        typer.echo("note: nothing is cited, so nothing was drawn", err=True)
    terminal.conclude(failed, files=len(together), succeeded=drawn > 0, done="drawn")


def _caption(citations: Sequence[Citation], source: str, numbers: Sequence[int]) -> str:
    """The quotes that stand on these pages of `source`, and which pages they are."""
    shown = dict.fromkeys(
        f"“{citation.quote}”"
        for citation in citations
        if citation.source == source and any(page in numbers for page, _ in citation.regions)
    )
    pages = " and ".join(map(str, numbers))
    return f"{' … '.join(shown)}  {Path(source).name}, page {pages}"


def draw_reading(page: Page, reading: Reading, out: Path, *, blocks: bool = True) -> None:
    """Draw the blocks of `reading`, or its lines, on `page`; its error is raised."""
    from kosmos_loader.compose import compose
    from kosmos_loader.drawing import draw_blocks, draw_lines
    from kosmos_loader.loading import error_in

    if reading.error is not None:
        raise error_in(reading)
    picture = draw_blocks(page, compose(reading)) if blocks else draw_lines(page, reading.lines)
    _save(picture, out)


def draw_quote(page: Page, reading: Reading, out: Path, quote: str) -> None:
    """Draw `quote` marked on `page`. `UsageError` where `reading` does not hold it."""
    from kosmos_loader.answering import cite
    from kosmos_loader.drawing import draw_citations
    from kosmos_loader.loading import error_in, joined

    if reading.error is not None:
        raise error_in(reading)
    citation = cite(quote, joined([reading]))
    if citation is None:
        raise UsageError(
            f"“{quote}” was not read on page {page.number} of {page.source}; see what was with: "
            f"kosmos-loader read {page.source} --pages {page.number}"
        )
    caption = _caption([citation], citation.source, [page.number])
    _save(draw_citations([page], [citation], caption), out)


def page_of(file: Path, number: int, password: str | None) -> Page:
    """Page `number` of `file`; its error is raised."""
    from kosmos_loader.loading import error_of
    from kosmos_loader.pages import open_pages

    page = next(open_pages(file, pages=number, password=password))
    if page.error is not None:
        raise error_of(page.source, page.number, page.error)
    return page


def _save(picture: Image.Image, path: Path) -> None:
    with terminal.output_at(path) as part:
        picture.save(part)
    typer.echo(f"drawn: {path}", err=True)
