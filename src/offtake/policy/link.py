"""Lay an object file out as one piece of code that runs at whatever page it is put.

Comes in: an object file of relocatable x86-64 code (ELF, as LLVM writes it with ``reloc="pic"``). Goes out: its
sections one after another, every distance between them filled in, and behind them a jump for each function that it
calls outside; only the addresses of those are left open. A linker does more, but few machines have one, and the
policy's code needs no more. What this module does not know it refuses. Source: System V ABI, AMD64 supplement, chapter
4.
"""

from __future__ import annotations

from collections.abc import Iterator
from struct import Struct
from typing import NamedTuple

import msgspec

PROGRAM, RELOCATIONS = 1, 4  #: types of section
WRITABLE, ALLOCATED = 1, 2  #: flags of those that are in memory
DISTANCES = (2, 4)  #: R_X86_64_PC32 and R_X86_64_PLT32: symbol + addend - place, in 32 bits
X86_64 = 62  #: the machine, in the file's head
MAGIC = b"\x7fELF\x02\x01"  #: 64 bits, the low byte first
JUMP = b"\xff\x25\x00\x00\x00\x00"  #: jmp through the address behind it
JUMP_BYTES, ALIGNED = 16, 64
UNWINDING = ".eh_frame"  #: what only exceptions would read

_HEAD, _SECTION = Struct("<16xHHIQQQIHHHHHH"), Struct("<IIQQQQIIQQ")
_SYMBOL, _RELOCATION, _DISTANCE = Struct("<IBBHQQ"), Struct("<QQq"), Struct("<i")


class Linked(msgspec.Struct, frozen=True, kw_only=True):
    """Hold code that can be put at any page: where its functions begin, and where the addresses of others belong."""

    code: bytes
    inside: dict[str, int]
    outside: dict[str, int]


class UnknownCodeError(Exception):
    """Say that an object file holds what cannot be laid out here."""


class Section(NamedTuple):
    """Hold one section of the file."""

    name: str
    kind: int
    flags: int
    data: bytes
    link: int
    info: int
    align: int


class Symbol(NamedTuple):
    """Hold a name, the section that it lies in (0: none of this file), and where in it."""

    name: str
    section: int
    value: int


def linked(file: bytes) -> Linked:
    """Return the code of an object file, laid out.

    Raises
    ------
    UnknownCodeError
        If it is not of this kind, or refers to something in a way that is not known here.
    """
    sections = list(_sections(file))
    places, code = _laid_out(sections)
    inside: dict[str, int] = {}
    outside: dict[str, int] = {}
    for relocations in (one for one in sections if one.kind == RELOCATIONS and one.info in places):
        symbols = list(_symbols(sections, relocations.link))
        inside |= {one.name: places[one.section] + one.value for one in symbols if one.name and one.section in places}
        for offset, info, addend in _RELOCATION.iter_unpack(relocations.data):
            kind, symbol = info & 0xFFFFFFFF, symbols[info >> 32]
            if kind not in DISTANCES or (symbol.section and symbol.section not in places):
                raise UnknownCodeError(f"relocation {kind} of {symbol.name or symbol.section}")
            target = places[symbol.section] + symbol.value if symbol.section else _jump(code, outside, symbol.name)
            at = places[relocations.info] + offset
            _DISTANCE.pack_into(code, at, target + addend - at)
    return Linked(code=bytes(code), inside=inside, outside=outside)


def _sections(file: bytes) -> Iterator[Section]:
    """Yield the sections of an object file."""
    if not file.startswith(MAGIC) or _HEAD.unpack_from(file)[1] != X86_64:
        raise UnknownCodeError("this is no object file of x86-64")
    head = _HEAD.unpack_from(file)
    table, count, names = head[5], head[11], head[12]
    rows = [_SECTION.unpack_from(file, table + _SECTION.size * index) for index in range(count)]
    for name, kind, flags, _, offset, size, link, info, align, _ in rows:
        yield Section(_text(file, rows[names][4] + name), kind, flags, file[offset : offset + size], link, info, align)


def _symbols(sections: list[Section], index: int) -> Iterator[Symbol]:
    """Yield the symbols of a table."""
    table = sections[index]
    for name, _, _, section, value, _ in _SYMBOL.iter_unpack(table.data):
        yield Symbol(_text(sections[table.link].data, name), section, value)


def _laid_out(sections: list[Section]) -> tuple[dict[int, int], bytearray]:
    """Put the sections that are in memory one after another; return where each begins."""
    places: dict[int, int] = {}
    code = bytearray()
    for index, one in enumerate(sections):
        fixed = one.kind == PROGRAM and one.flags & (ALLOCATED | WRITABLE) == ALLOCATED
        if fixed and one.data and one.name != UNWINDING:
            code.extend(bytes(-len(code) % max(one.align, ALIGNED)))
            places[index] = len(code)
            code.extend(one.data)
    return places, code


def _jump(code: bytearray, outside: dict[str, int], name: str) -> int:
    """Return where the jump to a function outside stands; put it behind the code if it is not there."""
    if name not in outside:
        code.extend(bytes(-len(code) % JUMP_BYTES))
        code.extend(JUMP.ljust(JUMP_BYTES, b"\0"))
        outside[name] = len(code) - JUMP_BYTES + len(JUMP)
    return outside[name] - len(JUMP)


def _text(data: bytes, at: int) -> str:
    """Return the text that stands somewhere, up to its end."""
    return data[at : data.index(b"\0", at)].decode()
