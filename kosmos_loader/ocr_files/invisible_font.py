"""The font of invisible text: every character a box of one em, none of them drawn.

A TrueType font of one glyph stands for all characters, and a table that is written last says which
code is which (ISO 32000-1, 9.10.3). The glyph is a line between two corners: it covers nothing, but
its bounds are those of the em, by which PDF readers tell where a character stands.
"""

from __future__ import annotations

import struct

import pypdf
from pypdf.generic import DictionaryObject, TextStringObject

from kosmos_loader.ocr_files.pdf_objects import added, dictionary, stream

EM = 1000
"""Units of the font, which are those of PDF widths."""

TOP = 985
"""Top of the glyph: pdfium takes a 64th more than what the font says (985 + 15 is 1000)."""

FIRST_SPARE = 0xD800
LAST_SPARE = 0xDFFF
"""Codes that no character has in 16 bits. They are given to characters beyond U+FFFF."""


class Codes:
    """Two-byte codes of characters, as they are asked for."""

    def __init__(self) -> None:
        self._codes: dict[str, int] = {}
        self._spare = FIRST_SPARE

    def encoded(self, text: str) -> str:
        """`text` in hexadecimal, for the text operators of a content stream."""
        return "".join(f"{self._code(character):04X}" for character in text)

    def _code(self, character: str) -> int:
        known = self._codes.get(character)
        if known is not None:
            return known
        code = ord(character)
        if code > 0xFFFF:
            # two thousand of these in one file have not been seen; others become U+FFFD
            if self._spare > LAST_SPARE:
                return self._code("\ufffd")
            code, self._spare = self._spare, self._spare + 1
        self._codes[character] = code
        return code

    @property
    def table(self) -> bytes:
        """The CMap from codes to Unicode."""
        entries = sorted((code, character) for character, code in self._codes.items())
        lines = [_CMAP_HEAD]
        for start in range(0, len(entries), 100):
            block = entries[start : start + 100]
            lines.append(f"{len(block)} beginbfchar")
            lines += [f"<{code:04X}> <{c.encode('utf-16-be').hex().upper()}>" for code, c in block]
            lines.append("endbfchar")
        return "\n".join([*lines, _CMAP_END]).encode("ascii")


_CMAP_HEAD = """/CIDInit /ProcSet findresource begin
12 dict begin
begincmap
/CIDSystemInfo << /Registry (Adobe) /Ordering (UCS) /Supplement 0 >> def
/CMapName /Adobe-Identity-UCS def
/CMapType 2 def
1 begincodespacerange
<0000> <FFFF>
endcodespacerange"""

_CMAP_END = """endcmap
CMapName currentdict /CMap defineresource pop
end
end"""


def font_objects(writer: pypdf.PdfWriter, codes: Codes) -> DictionaryObject:
    """The font with the `codes` that were given out, for a page's resources."""
    program = stream(truetype(), packed=True, Length1=len(truetype()))
    descriptor = dictionary(
        Type="/FontDescriptor",
        FontName="/Invisible",
        Flags=5,  # fixed pitch; symbolic, since it has no encoding of its own
        FontBBox=[0, 0, EM, EM],
        ItalicAngle=0,
        Ascent=EM,
        Descent=0,
        CapHeight=EM,
        StemV=80,
        FontFile2=added(writer, program),
    )
    system = dictionary(
        Registry=TextStringObject("Adobe"), Ordering=TextStringObject("Identity"), Supplement=0
    )
    descendant = dictionary(
        Type="/Font",
        Subtype="/CIDFontType2",
        BaseFont="/Invisible",
        CIDSystemInfo=system,
        FontDescriptor=added(writer, descriptor),
        DW=EM,
        # every code is glyph 1
        CIDToGIDMap=added(writer, stream(b"\0\1" * 65_536, packed=True)),
    )
    return dictionary(
        Type="/Font",
        Subtype="/Type0",
        BaseFont="/Invisible",
        Encoding="/Identity-H",
        DescendantFonts=[added(writer, descendant)],
        ToUnicode=added(writer, stream(codes.table, packed=True)),
    )


def truetype() -> bytes:
    """A TrueType font of two glyphs, both of the width and bounds of an em."""
    glyph = struct.pack(">hhhhhHH", 1, 0, 0, EM, TOP, 1, 0)  # one contour that ends at point 1
    glyph += bytes((1, 1)) + struct.pack(">hhhh", 0, EM, 0, TOP)  # both on the curve; x, then y
    glyph += _padding(glyph)
    tables = {
        "glyf": glyph,
        "head": struct.pack(
            ">IIIIHHqqhhhhHHhhh",
            *(0x10000, 0x10000, 0, 0x5F0F3CF5, 0, EM, 3_000_000_000, 3_000_000_000),
            *(0, 0, EM, TOP, 0, 8, 2, 0, 0),
        ),
        "hhea": struct.pack(">IhhhHhhhhhh8xhH", 0x10000, EM, 0, 0, EM, 0, 0, EM, 1, 0, 0, 0, 1),
        "hmtx": struct.pack(">Hhh", EM, 0, 0),
        "loca": struct.pack(">HHH", 0, 0, len(glyph) // 2),  # glyph 0 is empty
        "maxp": struct.pack(">IHHH", 0x10000, 2, 2, 1) + bytes(22),
        "post": struct.pack(">IIhhIIIII", 0x30000, 0, 0, 0, 1, 0, 0, 0, 0),
    }
    return _assembled(tables)


def _assembled(tables: dict[str, bytes]) -> bytes:
    """A font file of `tables`, which are sorted by name (OpenType 1.9, "Font file")."""
    count = len(tables)
    directory = struct.pack(">IHHHH", 0x10000, count, 64, 2, 16 * count - 64)
    at = len(directory) + 16 * count
    head, body = 0, b""
    for name, data in tables.items():
        if name == "head":
            head = at + len(body)
        directory += name.encode("ascii")
        directory += struct.pack(">III", _checksum(data), at + len(body), len(data))
        body += data + _padding(data)
    font = bytearray(directory + body)
    struct.pack_into(">I", font, head + 8, (0xB1B0AFBA - _checksum(bytes(font))) & 0xFFFFFFFF)
    return bytes(font)


def _padding(data: bytes) -> bytes:
    return b"\0" * (-len(data) % 4)


def _checksum(data: bytes) -> int:
    padded = data + _padding(data)
    total: int = sum(struct.unpack(f">{len(padded) // 4}I", padded))
    return total & 0xFFFFFFFF
