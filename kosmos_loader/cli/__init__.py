"""The command line: `kosmos-loader read | index | search | ask | draw | status | ...`.

Results go to stdout, everything else to stderr. Commands are thin over the modules of the package,
which are imported when a command runs, so that `--help` is quick.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kosmos_loader.cli import terminal
from kosmos_loader.cli.drawings import draw_citations, draw_quote, draw_reading, page_of
from kosmos_loader.cli.index import index
from kosmos_loader.cli.options import (
    AsJson,
    ChunkSize,
    DeviceName,
    ExistingText,
    Filters,
    Format,
    HowMany,
    ModelName,
    Ocr,
    PageRange,
    Password,
    Paths,
    ReaderName,
    StoreFolder,
    examples,
)
from kosmos_loader.cli.reading import chosen_reader, one_or_several, write_readings
from kosmos_loader.cli.train import train
from kosmos_loader.errors import (
    KosmosLoaderError,
    SourceNotFound,
    StoreCorrupt,
    StoreMismatch,
    UsageError,
)

if TYPE_CHECKING:
    from kosmos_loader.answering import AnswerStream, ChatModel
    from kosmos_loader.document import Answer, Hit
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

    files = find_files(one_or_several(paths))
    terminal.check_not_a_source(out, files)
    is_ocr_file = form in ocr_writing.FORMATS
    if is_ocr_file:
        ocr_writing.check(form, out)
    with chosen_reader(ocr, reader, model=model, device=device) as chosen:
        opened = open_pages(files, pages=pages, password=password)
        if is_ocr_file:
            ocr_writing.write(opened, chosen, files, form, out=out, password=password)
        else:
            write_readings(chosen.read(opened), files, form, chunk_size=chunk_size, out=out)


app.command(
    epilog=examples(
        "index scans/ --store archive",
        "index scans/ --store archive --ocr auto",
        'index "letters/*.pdf" ledger.tif --store archive --on-error stop',
        "index --retry-failed --store archive --page-timeout 1800",
        "index /mnt/scans --store archive --ray auto --ray-gpus 1",
    )
)(index)


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
    pixels = page_of(file, page, password)
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
    with terminal.last_door():
        app(prog_name="kosmos-loader")


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


def _print(result: Any) -> None:
    """Text as it is, anything else as JSON."""
    from kosmos_loader.cli.shapes import dumps

    typer.echo(result if isinstance(result, str) else dumps(result))


_NUMBERS: dict[str, type[int | float]] = {
    **dict.fromkeys(("page", "page_end", "page_count", "order", "page_width", "page_height"), int),
    **dict.fromkeys(("confidence", "support"), float),
}
"""Metadata that is no text: "1921" is a number as a page and a text as a heading."""


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


def _chat(url: str | None, model: str | None) -> ChatModel | None:
    if url is None and model is None:
        return None
    if url is None or model is None:
        raise UsageError("a language model needs both, --llm URL and --llm-model NAME")
    from kosmos_loader.answering import OpenAIChat

    return OpenAIChat(url, model)
