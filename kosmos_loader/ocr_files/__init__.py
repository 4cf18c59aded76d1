"""The OCR that archives have: hOCR, ALTO and PAGE XML read and written, searchable PDF written.

```
scan.tif + scan.xml ──existing_lines──▶ lines in page fractions      (readers/existing.py)
Reading ──hocr, alto, page_xml──▶ a file of the format               (cli/)
Page + Reading ──SearchablePdf──▶ a PDF with text under the picture
```

Files are read without trust: entities that they declare are refused, nothing that they point to is
opened, and size and depth are bounded.
"""

from __future__ import annotations

from kosmos_loader.ocr_files.alto import alto
from kosmos_loader.ocr_files.beside import OcrFile, found_beside, ocr_files_of, read_ocr_file
from kosmos_loader.ocr_files.hocr import hocr
from kosmos_loader.ocr_files.model import FoundLine, FoundPage, placed, text_angle
from kosmos_loader.ocr_files.page_xml import page_xml
from kosmos_loader.ocr_files.searchable_pdf import SearchablePdf

__all__ = [
    "FoundLine",
    "FoundPage",
    "OcrFile",
    "SearchablePdf",
    "alto",
    "found_beside",
    "hocr",
    "ocr_files_of",
    "page_xml",
    "placed",
    "read_ocr_file",
    "text_angle",
]
