"""Put records into bytes that tell a whole record from a torn one.

Comes in: records, or the bytes of a segment. Goes out: bytes, or the records that are whole and how far they go. A
frame is a mark, the length and the checksum of what follows, and the record in MessagePack. The checksum begins with
the segment's name, so that a record can neither be forged by a client's words nor come from another file. It must
never open a file.
"""

from __future__ import annotations

from collections.abc import Iterator
from struct import Struct
from typing import NamedTuple
from zlib import crc32

import msgspec

from offtake.route.ledger.entry import Record

MARK = b"OtL1"
HEAD = Struct("<4sII")  #: mark, length, checksum

encode = msgspec.msgpack.Encoder().encode
decode = msgspec.msgpack.Decoder(Record).decode


class Framed(NamedTuple):
    """Hold a record, and where its frame ends."""

    record: Record
    end: int


def salt_of(segment: str) -> int:
    """Return what the checksums of a segment begin with."""
    return crc32(segment.encode())


def frame_of(record: Record, salt: int) -> bytes:
    """Return the bytes of a record."""
    body = encode(record)
    return HEAD.pack(MARK, len(body), crc32(body, salt)) + body


def framed_at(data: bytes, at: int, salt: int) -> Framed | None:
    """Return the record whose frame begins at ``at``; None where none is whole."""
    if len(data) - at < HEAD.size:
        return None
    mark, length, checksum = HEAD.unpack_from(data, at)
    begin = at + HEAD.size
    end = begin + length
    if mark != MARK or end > len(data):
        return None
    body = data[begin:end]
    if crc32(body, salt) != checksum:
        return None
    try:
        return Framed(decode(body), end)
    except msgspec.MsgspecError:  # of another version
        return None


def frames_in(data: bytes, salt: int) -> Iterator[Framed]:
    """Yield the records from the beginning of ``data`` up to the first that is not whole."""
    found = framed_at(data, 0, salt)
    while found is not None:
        yield found
        found = framed_at(data, found.end, salt)


def next_frame(data: bytes, after: int, salt: int) -> int:
    """Return where the next whole record begins at or after ``after``, or -1."""
    at = data.find(MARK, after)
    while at >= 0 and framed_at(data, at, salt) is None:
        at = data.find(MARK, at + 1)
    return at
