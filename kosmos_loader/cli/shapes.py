"""What the commands print: JSON values with the keys that scripts rely on, and text for people."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from kosmos_loader.archive import Report
from kosmos_loader.cli.options import Format
from kosmos_loader.compose import compose
from kosmos_loader.document import (
    REASONS,
    Answer,
    Block,
    Citation,
    Failure,
    Hit,
    Reading,
    Region,
    ordered_flags,
)
from kosmos_loader.geometry import union
from kosmos_loader.loading import chunks
from kosmos_loader.readers.pool import is_left_alone
from kosmos_loader.store import FailedPage, LastRun, LedgerEntry, SourceSummary

EXCERPT = 300
"""Characters of a hit that people are shown."""


def printed(
    readings: Iterable[Reading], form: Format, *, chunk_size: int, titled: bool
) -> Iterator[str]:
    """Text to print, piece by piece as pages are read.

    Pages of markdown stand under a comment with file and page where `titled` is true or the file
    has several pages. A page that failed shows in JSON only.
    """
    match form:
        case Format.chunks:
            for chunk in chunks(readings, size=chunk_size, failed=lambda _: None):
                yield dumps({"text": chunk.text, "metadata": chunk.metadata()}) + "\n"
        case Format.json:
            yield from (dumps(page_json(reading)) + "\n" for reading in readings)
        case Format.markdown:
            yield from _printed_markdown(readings, titled=titled)


def _printed_markdown(readings: Iterable[Reading], *, titled: bool) -> Iterator[str]:
    between = ""
    for reading in readings:
        page = reading.page
        if reading.error is not None:
            continue
        title = f"<!-- {page.source}, page {page.number} -->\n\n"
        text = _markdown(reading, compose(reading)).rstrip("\n")
        yield f"{between}{title if titled or page.count > 1 else ''}{text}\n"
        between = "\n"


def dumps(value: Any) -> str:
    """`value` as JSON on one line, with letters as they are."""
    return json.dumps(value, ensure_ascii=False)


def _markdown(reading: Reading, blocks: Sequence[Block]) -> str:
    if reading.markdown is not None:
        return reading.markdown
    return "\n\n".join(block.markdown for block in blocks)


def page_json(reading: Reading) -> dict[str, Any]:
    """A page as `read --format json` prints it; page 0 is a file that could not be opened."""
    page, blocks = reading.page, compose(reading)
    return {
        "source": page.source,
        "page": page.number,
        "width": page.width,
        "height": page.height,
        "reader": reading.reader,
        "flags": list(ordered_flags([*reading.flags, *(f for b in blocks for f in b.flags)])),
        "error": reading.error and _failure_json(reading.error),
        "markdown": _markdown(reading, blocks),
        "lines": [
            {
                "text": line.text,
                "box": list(line.box.rounded().as_tuple()),
                "confidence": line.confidence,
            }
            for line in reading.lines
        ],
        "blocks": [
            {
                "kind": block.kind,
                "level": block.level,
                "markdown": block.markdown,
                "boxes": regions_json(block.regions),
            }
            for block in blocks
        ],
    }


def regions_json(regions: Iterable[Region]) -> list[list[float]]:
    """`[page, x0, y0, x1, y1]` each."""
    return [[page, *box.rounded().as_tuple()] for page, box in regions]


def _failure_json(failure: Failure) -> dict[str, str]:
    return {"type": failure.type, "message": failure.message}


def hit_json(hit: Hit) -> dict[str, Any]:
    """A hit as `search --json` prints it."""
    chunk = hit.chunk
    return {
        "score": round(hit.score, 6),
        "text": chunk.text,
        "source": chunk.source,
        "page": chunk.page,
        "boxes": regions_json(chunk.boxes()),
        "chunk_id": chunk.chunk_id,
        "metadata": chunk.metadata(),
    }


def answer_json(answer: Answer) -> dict[str, Any]:
    """An answer as `ask --json` prints it."""
    return {
        "question": answer.question,
        "answer": answer.text,
        "model": answer.model,
        "abstained": answer.abstained,
        "citations": [
            {
                "quote": citation.quote,
                "source": citation.source,
                "page": citation.page,
                "boxes": regions_json(citation.regions),
                "chunk_id": citation.chunk_id,
            }
            for citation in answer.citations
        ],
        "unsupported": [
            {
                "text": answer.text[part.start : part.end],
                "reason": part.reason,
                "start": part.start,
                "end": part.end,
            }
            for part in answer.unsupported
        ],
        "hits": [hit_json(hit) for hit in answer.hits],
    }


def failed_json(failed: FailedPage) -> dict[str, Any]:
    """An entry of the error ledger."""
    return {"source": failed.source, "page": failed.page, **_failure_json(failed.failure)}


def report_json(report: Report) -> dict[str, Any]:
    """What `index --json` prints."""
    return {
        "files": report.files,
        "pages": report.pages,
        "reused": report.reused,
        "chunks": report.chunks,
        "unchanged": report.unchanged,
        "vanished": list(report.vanished),
        "interrupted": report.interrupted,
        "failed": [failed_json(failed) for failed in report.failed],
        "flagged": [
            {"source": source, "page": page, "flags": list(flags)}
            for source, page, flags in report.flagged
        ],
    }


def report_text(report: Report, store: str) -> str:
    """What `index` prints."""
    done = f"{count(report.files, 'file')}, {count(report.pages, 'page')}"
    counts = f"{done} ({report.reused} of them read before)"
    flagged = [
        f"  {', '.join(flags)}: {_where(source, page)}" for source, page, flags in report.flagged
    ]
    vanished = [f"  no longer there, taken out: {source}" for source in report.vanished]
    first = f"{counts}, {count(report.chunks, 'chunk')} in {store}"
    return "\n".join([first, *flagged, *vanished])


def _ledger_json(entry: LedgerEntry) -> dict[str, Any]:
    """An entry of the error ledger with its time, and whether only --retry-failed tries it."""
    return {
        **failed_json(FailedPage(*entry[:3])),
        "time": _utc(entry.time),
        "left_alone": is_left_alone(entry.failure),
    }


def status_json(
    stats: dict[str, Any],
    sources: Sequence[SourceSummary],
    ledger: Sequence[LedgerEntry],
    run: LastRun | None = None,
) -> dict[str, Any]:
    """What `status --json` prints: counts, the last run, and files and failures by name."""
    return {
        **stats,
        "last_run": run and _run_json(run),
        "sources": [source._asdict() for source in sources],
        "failures": [_ledger_json(entry) for entry in ledger],
    }


def _run_json(run: LastRun) -> dict[str, Any]:
    """The last run, with times as text, and its pace."""
    pace = run.pages_per_second
    return {
        **asdict(run),
        "begun": _utc(run.begun),
        "seen": _utc(run.seen),
        "pages_per_second": None if pace is None else round(pace, 3),
    }


def status_text(
    stats: dict[str, Any],
    sources: Sequence[SourceSummary],
    ledger: Sequence[LedgerEntry],
    run: LastRun | None = None,
) -> str:
    """What `status` prints."""
    lines = [f"{name:15} {value}" for name, value in stats.items()]
    lines += [f"{'last run':15} {line}" for line in _run_lines(run)] if run else []
    lines += [""] if sources else []
    for source in sources:
        chunks, pages = count(source.chunks, "chunk"), count(source.pages, "page")
        lines.append(f"{chunks:>13}  {pages:>10}  {source.source}")
    lines += ["", "failed:"] if ledger else []
    for entry in ledger:
        where = _where(entry.source, entry.page)
        lines.append(f"  {_local(entry.time)}  {where}: {entry.failure.message}")
    if ledger:
        lines.append(f"try again: kosmos-loader index --retry-failed --store {stats['folder']}")
    if any(is_left_alone(entry.failure) for entry in ledger):
        lines.append("without it, pages that hung or ended their process are not tried again")
    return "\n".join(lines)


def _run_lines(run: LastRun) -> Iterator[str]:
    pace = run.pages_per_second
    read = f"{count(run.read, 'page')} read" + (f" at {pace:.1f} pages/s" if pace else "")
    doubtful = [
        f"{n} {what}" for n, what in ((run.failed, "failed"), (run.flagged, "flagged")) if n
    ]
    yield ", ".join([f"{run.reached} of {count(run.files, 'file')}", read, *doubtful])
    if run.ended:
        yield f"ended {_local(run.seen)}"
    else:
        left = count(run.files - run.reached, "file")
        yield f"not ended, {left} left; last heard of {_local(run.seen)}"
        yield "if it is not under way, the same index command goes on from there"


def _utc(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


def _local(seconds: float) -> str:
    """To the minute, in the time of this place."""
    return datetime.fromtimestamp(seconds).astimezone().isoformat(" ", "minutes")[:16]


def hits_text(hits: Sequence[Hit]) -> str:
    """What `search` prints: score, place and the first words of each hit."""
    if not hits:
        return "nothing found"
    return "\n\n".join(map(_hit_text, hits))


def _hit_text(hit: Hit) -> str:
    chunk = hit.chunk
    places = [f"{hit.score:.3f}  {_where(chunk.source, chunk.page)}", " > ".join(chunk.headings)]
    text = " ".join(chunk.text.split())
    excerpt = text if len(text) <= EXCERPT else text[:EXCERPT].rsplit(" ", 1)[0] + " …"
    return "\n".join([*filter(None, places), textwrap.indent(textwrap.fill(excerpt, 94), "  ")])


def answer_text(answer: Answer) -> str:
    """What `ask` prints: the answer, each citation with file, page and box, and what has none."""
    return answer.text + grounds_text(answer)


def grounds_text(answer: Answer) -> str:
    """What stands below an answer: what it rests on, and what of it rests on nothing."""
    cited = [
        f"[{number}] “{citation.quote}”\n    {place_text(citation)}"
        for number, citation in enumerate(answer.citations, start=1)
    ]
    doubtful = [
        f"[?] “{answer.text[part.start : part.end]}”\n    {REASONS[part.reason]}"
        for part in answer.unsupported
    ]
    return "".join(f"\n\n{entry}" for entry in [*cited, *doubtful])


def place_text(citation: Citation) -> str:
    """Where a citation stands: file, and for each page the corners of its box in percent."""
    boxes: dict[int, list[Any]] = {}
    for page, box in citation.regions:
        boxes.setdefault(page, []).append(box)
    if not boxes:
        return f"{_where(citation.source, citation.page)}, no place known"
    places = []
    for page, on_page in boxes.items():
        x0, y0, x1, y1 = (f"{100 * side:.1f}%" for side in union(on_page).as_tuple())
        places.append(f"page {page}, box {x0} {y0} to {x1} {y1}")
    return ", ".join([citation.source, *places])


def count(number: int, thing: str) -> str:
    """The number with its noun: "1 page", "2 pages"."""
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


def _where(source: str, page: int) -> str:
    return f"{source}, page {page}" if page else source
