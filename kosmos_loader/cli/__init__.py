"""The command line: `kosmos-loader read | index | search | ask | draw | status | ...`.

Results go to stdout, everything else to stderr. Commands are thin over the modules of the package,
which are imported when a command runs, so that `--help` is quick.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kosmos_loader.cli import terminal
from kosmos_loader.cli.options import (
    AsJson,
    ChunkSize,
    DeviceName,
    Embedder,
    ExistingText,
    Filters,
    Format,
    HowMany,
    ModelName,
    Ocr,
    OnError,
    PageRange,
    PageTimeout,
    Password,
    Paths,
    RayAddress,
    RayGpus,
    RayWorkers,
    ReaderName,
    SomePaths,
    StoreFolder,
    examples,
)
from kosmos_loader.cli.train import train
from kosmos_loader.errors import (
    KosmosLoaderError,
    SourceNotFound,
    StoreCorrupt,
    StoreMismatch,
    UsageError,
)

if TYPE_CHECKING:
    from PIL import Image

    from kosmos_loader.answering import AnswerStream, ChatModel
    from kosmos_loader.document import Answer, Citation, Hit, Page, Reading
    from kosmos_loader.embedding import Embeddings
    from kosmos_loader.readers.base import PageReader
    from kosmos_loader.store import Store

app = typer.Typer(
    name="kosmos-loader",
    cls=terminal.Commands,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        typer.echo(f"kosmos-loader {version('kosmos-loader')}")
        raise typer.Exit


@app.callback(
    epilog=examples(
        "index scans/ --store archive",
        'ask "What was paid in May 1921?" --store archive --draw page.png',
    )
)
def start(
    *,
    verbose: Annotated[bool, typer.Option("-v", "--verbose", help="Say more.")] = False,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Say errors only.")] = False,
    _version: Annotated[
        bool,
        typer.Option("--version", help="Show the version.", callback=_show_version, is_eager=True),
    ] = False,
) -> None:
    """Scanned files in, cited answers with boxes on the paper out.

    Results go to stdout, everything else to stderr.
    """
    terminal.keep_all_letters()
    level = logging.ERROR if quiet else logging.DEBUG if verbose else logging.INFO
    terminal.log_to_stderr(level)


@app.command(
    epilog=examples(
        "read letter.jpg",
        "read scans/ --format json -o pages.jsonl",
        "read ledger.pdf --pages 1-3 --reader rapidocr",
        "read scan.tif --format alto -o scan.alto.xml",
        "read ledger.pdf --ocr auto --format pdf -o searchable.pdf",
    )
)
def read(
    paths: Paths,
    *,
    reader: ReaderName = "auto",
    model: ModelName = None,
    device: DeviceName = None,
    ocr: ExistingText = Ocr.again,
    form: Annotated[
        Format,
        typer.Option(
            "--format",
            help="What to print; hocr, alto (4), page (PAGE XML 2019) and pdf (searchable) are "
            "files for other programs.",
        ),
    ] = Format.markdown,
    pages: PageRange = None,
    password: Password = None,
    chunk_size: ChunkSize = 1000,
    out: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--out",
            help="File to write to. Of hocr, alto, page and pdf also a folder, for a file each.",
            metavar="OUT",
        ),
    ] = None,
) -> None:
    """Read files and print their text.

    json is one object a page, a line each, with lines, blocks and their boxes; chunks is one object
    a chunk, with text and metadata. A file of alto or page holds one page, of hocr and pdf all.
    """
    from kosmos_loader.cli import ocr_writing
    from kosmos_loader.pages import find_files, open_pages

    files = find_files(_one_or_several(paths))
    terminal.check_not_a_source(out, files)
    is_ocr_file = form in ocr_writing.FORMATS
    if is_ocr_file:
        ocr_writing.check(form, out)
    with _reading(ocr, reader, model=model, device=device) as chosen:
        opened = open_pages(files, pages=pages, password=password)
        if is_ocr_file:
            ocr_writing.write(opened, chosen, files, form, out=out, password=password)
        else:
            write_readings(chosen.read(opened), files, form, chunk_size=chunk_size, out=out)


@app.command(
    epilog=examples(
        "index scans/ --store archive",
        "index scans/ --store archive --ocr auto",
        'index "letters/*.pdf" ledger.tif --store archive --on-error stop',
        "index --retry-failed --store archive --page-timeout 1800",
        "index /mnt/scans --store archive --ray auto --ray-gpus 1",
    )
)
def index(
    paths: SomePaths = None,
    *,
    store: StoreFolder,
    reader: ReaderName = "auto",
    model: ModelName = None,
    device: DeviceName = None,
    ocr: ExistingText = Ocr.again,
    embedder: Annotated[
        Embedder, typer.Option("--embedder", help="What turns text into vectors.")
    ] = Embedder.hash,
    workers: Annotated[
        int, typer.Option("--workers", min=1, help="Processes that read (RapidOCR only).")
    ] = 1,
    page_timeout: PageTimeout = None,
    ray: RayAddress = None,
    ray_workers: RayWorkers = None,
    ray_gpus: RayGpus = None,
    retry: Annotated[
        bool,
        typer.Option("--retry-failed", help="Try what failed again, and nothing else."),
    ] = False,
    force: Annotated[
        bool,
        typer.Option("--force", help="Look at files again that have not changed."),
    ] = False,
    on_error: Annotated[
        OnError, typer.Option("--on-error", help="What to do about a page that cannot be read.")
    ] = OnError.skip,
    pages: PageRange = None,
    password: Password = None,
    chunk_size: ChunkSize = 1000,
    as_json: AsJson = False,
) -> None:
    """Read files into a store, to be searched and asked.

    To stop, press Ctrl-C once: the pages in hand are finished and kept. A second Ctrl-C stops at
    once and loses only those. `status` shows how far a run came.

    To go on, give the same command again, after a crash or a power cut too: files that have not
    changed are passed over, and pages that were read before are not read again. Chunks of files
    that have vanished from a folder are deleted; files in a folder that cannot be listed have not
    vanished.

    To retry, give the same command again as well: files and pages that fail are named at the end
    and by `status`, and the next run tries them again, but for pages that hung or ended their
    process. --retry-failed tries all of them, and only them.
    """
    from kosmos_loader.archive import ingest, retry_failed
    from kosmos_loader.cli import clusters, shapes
    from kosmos_loader.loading import error_of
    from kosmos_loader.store import Store

    if not paths and not retry:
        raise UsageError("nothing to index; name files, folders or patterns, or --retry-failed")
    if retry and (force or pages is not None):
        raise UsageError("--retry-failed tries what failed; --force and --pages do not go with it")
    if not retry:
        _look_for(paths or [], store)  # what is missing is told before a reader loads
    cluster = clusters.cluster_at(
        *(ray, reader),
        workers=ray_workers,
        gpus=ray_gpus,
        model=model,
        page_timeout=page_timeout,
        unmeant=workers > 1 or device is not None,
    )
    with (
        cluster or nullcontext(),
        _reading(
            *(ocr, reader),
            model=model,
            device=device,
            workers=workers,
            page_timeout=_PAGE_TIMEOUT if page_timeout is None else page_timeout,
        )
        if cluster is None
        else nullcontext(
            clusters.reader_on(cluster, ocr, reader, model=model, gpus=ray_gpus)
        ) as chosen,
        Store.open(store, embedder=_embedder(embedder), create=not retry) as opened,
        terminal.progress() as step,
        terminal.interrupts() as stopping,
    ):
        if retry:
            report = retry_failed(
                opened,
                chosen,
                sources=paths or (),
                on_error=on_error.value,
                chunk_size=chunk_size,
                password=password,
                elsewhere=cluster,
                progress=step,
                stopping=stopping,
            )
        else:
            report = ingest(
                _one_or_several(paths or []),
                opened,
                chosen,
                on_error=on_error.value,
                chunk_size=chunk_size,
                pages=pages,
                password=password,
                force=force,
                drawing=_drawing(workers),
                elsewhere=cluster,
                progress=step,
                stopping=stopping,
            )
    _print(shapes.report_json(report) if as_json else shapes.report_text(report, str(store)))
    if report.interrupted:
        typer.echo("stopped; what was done is kept, the same command goes on from here", err=True)
        raise typer.Exit(terminal.INTERRUPTED)
    errors = [error_of(*failed) for failed in report.failed]
    listed = f"kosmos-loader status --store {store}"
    terminal.conclude(errors, files=report.files, succeeded=report.pages > 0, listed=listed)


@app.command(
    epilog=examples(
        'search "harbour dues" --store archive',
        "search total --store archive -k 20 --filter kind=table --json",
    )
)
def search(
    query: Annotated[str, typer.Argument(help="Words to look for.", metavar="QUERY")],
    *,
    store: StoreFolder,
    k: HowMany = 5,
    filters: Filters = None,
    as_json: AsJson = False,
) -> None:
    """Find the passages that fit best, best first."""
    from kosmos_loader.cli import shapes
    from kosmos_loader.store import Store

    with Store.open(store, create=False) as opened:
        hits = _found(opened, query, k, filters)
    _print([shapes.hit_json(hit) for hit in hits] if as_json else shapes.hits_text(hits))


def _found(store: Store, query: str, k: int, filters: list[str] | None) -> list[Hit]:
    """By words alone where the store was made with an embedder that is not here."""
    where = _parsed(filters)
    try:
        return store.search(query, k, filter=where)
    except StoreMismatch:
        typer.echo(f"note: by words alone, without embedder {store.embedder_name!r}", err=True)
        return store.search(query, k, filter=where, mode="lexical")


@app.command(
    epilog=examples(
        'ask "Who signed the lease?" --store archive',
        'ask "What was the total?" --store archive --draw total.png',
        'ask "Who paid?" --store archive --llm http://localhost:8000/v1 --llm-model NAME',
    )
)
def ask(
    question: Annotated[str, typer.Argument(help="A question.", metavar="QUESTION")],
    *,
    store: StoreFolder,
    k: HowMany = 5,
    filters: Filters = None,
    llm: Annotated[
        str | None,
        typer.Option("--llm", help="Address of an OpenAI-compatible server.", metavar="URL"),
    ] = None,
    llm_model: Annotated[
        str | None, typer.Option("--llm-model", help="Model to ask there.", metavar="NAME")
    ] = None,
    draw: Annotated[
        Path | None,
        typer.Option(
            "--draw",
            help="Draw the cited page with the quote marked (both pages of a quote that runs over "
            "two); further ones go to OUT-2.png, ...",
            metavar="OUT.png",
        ),
    ] = None,
    password: Password = None,
    as_json: AsJson = False,
) -> None:
    """Answer a question, citing file, page and box.

    Without a language model the passages that match best are quoted as they stand. What of a
    model's answer no citation bears out is listed behind [?].
    """
    from kosmos_loader.answering import answer, answer_stream
    from kosmos_loader.cli import shapes
    from kosmos_loader.store import Store

    chat = _chat(llm, llm_model)
    if draw is not None:
        terminal.check_picture(draw)
    with Store.open(store, create=False) as opened:
        hits = _found(opened, question, k, filters)
        if sys.stdout.isatty() and not as_json:
            found = print_stream(answer_stream(question, hits, chat=chat))
        else:
            found = answer(question, hits, chat=chat)
            _print(shapes.answer_json(found) if as_json else shapes.answer_text(found))
        for note in found.notes:
            typer.echo(f"note: {note}", err=True)
        if draw is not None:
            draw_citations(found, draw, opened, password=password)


@app.command(
    epilog=examples(
        "draw letter.jpg -o letter-blocks.png",
        "draw ledger.pdf --page 2 --lines -o ledger-lines.png",
        'draw ledger.pdf --quote "painting of the buoys" -o ledger-quote.png',
    )
)
def draw(
    file: Annotated[Path, typer.Argument(help="A file.", metavar="FILE")],
    *,
    page: Annotated[int, typer.Option("--page", help="Page to draw.", min=1, metavar="N")] = 1,
    blocks: Annotated[
        bool, typer.Option("--blocks/--lines", help="What to draw on the page.")
    ] = True,
    quote: Annotated[
        str | None,
        typer.Option("--quote", help="Mark these words instead, as a citation.", metavar="TEXT"),
    ] = None,
    reader: ReaderName = "auto",
    model: ModelName = None,
    password: Password = None,
    out: Annotated[Path, typer.Option("-o", "--out", help="Picture to write.", metavar="OUT.png")],
) -> None:
    """Draw what was read on a page: blocks by kind, lines, or a quote.

    Words of a quote may differ a little from what was read, digits may not.
    """
    from kosmos_loader.readers.base import choose_reader

    terminal.check_picture(out)
    terminal.check_not_a_source(out, [file])
    pixels = _page(file, page, password)
    chosen = choose_reader(reader, model=model)
    reading = next(iter(chosen.read([pixels])))
    if quote is None:
        draw_reading(pixels, reading, out, blocks=blocks)
    else:
        draw_quote(pixels, reading, out, quote)


@app.command(
    epilog=examples(
        "status --store archive",
        "status --store archive --json",
    )
)
def status(*, store: StoreFolder, as_json: AsJson = False) -> None:
    """Show what a store holds, what failed and what remains.

    How far the last run came is told too; of files that it did not come to the end of (unfinished),
    how many pages remain, as far as that is known. What failed is what `index --retry-failed` would
    try.
    """
    from kosmos_loader.cli import shapes
    from kosmos_loader.store import Store

    with Store.open(store, create=False) as opened:
        stats, sources, ledger = opened.stats(), opened.sources(), opened.ledger()
        stats |= opened.journal.totals()._asdict()
        run = opened.journal.last_run()
    shape = shapes.status_json if as_json else shapes.status_text
    _print(shape(stats, sources, ledger, run))


@app.command(
    epilog=examples(
        "verify --store archive",
        "verify --store archive --rebuild",
    )
)
def verify(
    *,
    store: StoreFolder,
    rebuild: Annotated[
        bool,
        typer.Option("--rebuild", help="Make what is damaged anew from the chunks, then check."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Check a store and print every problem.

    Ends with exit code 15 where there is one. --rebuild mends words, metadata, vectors and index;
    where the text of a chunk is damaged, its file has to be indexed again.
    """
    from kosmos_loader.cli.shapes import count
    from kosmos_loader.store import Store

    with Store.open(store, create=False) as opened:
        if rebuild:
            opened.rebuild()
        problems = opened.verify()
    _print(problems if as_json else "\n".join(problems) or "sound")
    if problems:
        raise StoreCorrupt(
            f"the store in {store} has {count(len(problems), 'problem')}; mend what can be with: "
            f"kosmos-loader verify --store {store} --rebuild"
        )


@app.command(
    epilog=examples(
        "remove scans/letter.jpg --store archive",
    )
)
def remove(
    source: Annotated[str, typer.Argument(help="A file that is in the store.", metavar="SOURCE")],
    *,
    store: StoreFolder,
    as_json: AsJson = False,
) -> None:
    """Take a file out of a store; the file itself is left alone.

    What was read of it is dropped too, so that nothing of it stays in the store.
    """
    from kosmos_loader.cli.shapes import count
    from kosmos_loader.sources import absolute
    from kosmos_loader.store import Store
    from kosmos_loader.store.filters import encodable

    with Store.open(store, create=False) as opened:
        failed = {failure.source for failure in opened.failures()}
        for name in (source, str(absolute(source))):
            chunks = opened.delete(source=name)
            is_known = encodable(name) in failed or opened.journal.file(name) is not None
            readings = opened.forget_readings(name)
            if chunks or is_known or readings:
                opened.clear_failures(name)
                break
        else:
            raise SourceNotFound(
                f"{source} is not in the store; list what is: kosmos-loader status --store {store}"
            )
    removed = f"removed {count(chunks, 'chunk')} of {name}"
    _print({"source": name, "chunks": chunks} if as_json else removed)


@app.command(
    epilog=examples(
        "doctor",
    )
)
def doctor(*, model: ModelName = None, as_json: AsJson = False) -> None:
    """Show what is installed and which reader is chosen.

    The reader is loaded, which is the only proof that it can be.
    """
    from kosmos_loader.cli.diagnosis import diagnosis, diagnosis_text

    found = diagnosis(model=model)
    _print(found if as_json else diagnosis_text(found))


app.command(
    epilog=examples(
        "train run --from scratch",
        "train run --from microsoft/kosmos-2.5 --pages scans",
    )
)(train)


def main() -> None:
    """The console script; ends the process with the exit code of what happened."""
    terminal.open_standard_streams()
    app(prog_name="kosmos-loader")


def write_readings(
    readings: Iterable[Reading],
    files: Sequence[Path],
    form: Format,
    *,
    chunk_size: int = 1000,
    out: Path | None = None,
) -> None:
    """Print `readings` of `files` as they come, or write them to `out`.

    What failed is raised at the end, when everything else is written: the error itself where it is
    the only file, else `SomeFailed`.
    """
    from kosmos_loader.cli import shapes

    # a bar and results cannot share the terminal
    shown = out is not None or not sys.stdout.isatty()
    with terminal.output(out) as write, terminal.progress(shown=shown) as step:
        watched = terminal.Watched(readings, files, step)
        for piece in shapes.printed(watched, form, chunk_size=chunk_size, titled=len(files) > 1):
            write(piece)
        # within the block, so that an `out` that stood there outlives a run that read nothing
        terminal.conclude(watched.failed, files=len(files), succeeded=watched.read > 0)


def print_stream(stream: AnswerStream) -> Answer:
    """Print an answer while it is being written, and below it what it rests on."""
    from kosmos_loader.cli.shapes import grounds_text

    try:
        for piece in stream:
            typer.echo(piece, nl=False)
            sys.stdout.flush()
    except (KosmosLoaderError, KeyboardInterrupt):
        typer.echo()  # the error stands on a line of its own
        raise
    typer.echo(grounds_text(stream.answer))
    return stream.answer


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


def _page(file: Path, number: int, password: str | None) -> Page:
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


def _print(result: Any) -> None:
    """Text as it is, anything else as JSON."""
    from kosmos_loader.cli.shapes import dumps

    typer.echo(result if isinstance(result, str) else dumps(result))


def _one_or_several(paths: list[str]) -> str | list[str]:
    """A single path is looked up at once, and its error is the command's."""
    return paths[0] if len(paths) == 1 else paths


_NUMBERS: dict[str, type[int | float]] = {
    **dict.fromkeys(("page", "page_end", "page_count", "order", "page_width", "page_height"), int),
    **dict.fromkeys(("confidence", "support"), float),
}
"""Metadata that is no text: "1921" is a number as a page and a text as a heading."""


def _look_for(paths: list[str], store: Path) -> None:
    """Raise what `ingest` would, were it not for a folder whose last file went from a store."""
    from kosmos_loader.pages import find_files

    try:
        find_files(_one_or_several(paths))
    except SourceNotFound:
        if not (store.exists() and os.path.isdir(paths[0])):  # noqa: PTH112  Path.is_dir raises
            raise


def _parsed(filters: Sequence[str] | None) -> dict[str, Any] | None:
    parsed: dict[str, list[str | int | float]] = {}
    for text in filters or ():
        key, equals, value = text.partition("=")
        if not (key and equals):
            raise UsageError(f"--filter {text!r} is no filter; write it like page=2 or kind=table")
        try:
            parsed.setdefault(key, []).append(_NUMBERS.get(key, str)(value))
        except ValueError as error:
            raise UsageError(f"--filter {text!r}: {key} takes a number, not {value!r}") from error
    return {key: _one_of(values) for key, values in parsed.items()} or None


def _one_of(values: list[str | int | float]) -> Any:
    return values[0] if len(values) == 1 else {"$in": values}


@contextmanager
def _reading(
    ocr: Ocr,
    name: str,
    *,
    model: str | None,
    device: str | None,
    workers: int = 1,
    page_timeout: float = 0.0,
) -> Iterator[PageReader]:
    """The reader that is asked for; none is loaded where only what exists is to be taken."""
    from kosmos_loader.readers.base import check_name, choose_reader
    from kosmos_loader.readers.existing import ExistingOcr

    check_name(name)
    if ocr is Ocr.existing:
        yield ExistingOcr()
        return
    loaded = choose_reader(name, model=model, device=device)
    with _in_processes(loaded, workers, page_timeout) as chosen:
        yield ExistingOcr(chosen) if ocr is Ocr.auto else chosen


_PAGE_TIMEOUT = 600.0
"""Seconds that a page may take unless told."""


def _in_processes(
    reader: PageReader, workers: int, page_timeout: float
) -> AbstractContextManager[PageReader]:
    """RapidOCR in processes of its own where there are several, or where one may be cut off."""
    if workers == 1 and not page_timeout:
        return nullcontext(reader)
    from kosmos_loader.readers.pool import ReaderPool
    from kosmos_loader.readers.rapidocr import RapidOCRPageReader

    if not isinstance(reader, RapidOCRPageReader):
        if workers > 1 or page_timeout != _PAGE_TIMEOUT:
            raise UsageError(
                f"--workers and --page-timeout are for RapidOCR; {reader.name} reads in one process"
            )
        return nullcontext(reader)
    if workers > 1:
        reader = RapidOCRPageReader(threads=max(1, (os.cpu_count() or 1) // workers))
    return ReaderPool(reader, workers=workers, page_timeout=page_timeout or None)


def _drawing(workers: int) -> int:
    """Processes that draw pages for so many that read: drawing one takes a small part of reading
    it.
    """
    return 0 if workers == 1 else max(1, workers // 8)


def _embedder(name: Embedder) -> Embeddings:
    from kosmos_loader.embedding import HashEmbedder

    match name:
        case Embedder.hash:
            return HashEmbedder()


def _chat(url: str | None, model: str | None) -> ChatModel | None:
    if url is None and model is None:
        return None
    if url is None or model is None:
        raise UsageError("a language model needs both, --llm URL and --llm-model NAME")
    from kosmos_loader.answering import OpenAIChat

    return OpenAIChat(url, model)
