"""Requests that could be read in two ways, and plain ones beside them: what we do, and who does otherwise, and why.

`others` names the peers that take what we refuse, or refuse (or wait for more of) what we take: measured with h11 0.16,
nginx 1.22.1 and HAProxy 2.6.12 as they come. `ours` is the status of the refusal, or 0 where the request is taken.
"""

from __future__ import annotations

from typing import NamedTuple

FRAMED_TWICE = "may be framed by the coding alone (RFC 9112 6.3); whoever stands before us may have used the length"
EQUAL = "equal values may be taken as one (RFC 9110 8.6); nobody who means well sends them"
OLD = "HTTP/1.0 knows no coding (RFC 9112 6.1): faulty framing"
FOLD = "a server may unfold lines (RFC 9112 5.2); a reader that does not, sees another header"
SPACE = "space about the size of a chunk is not in the grammar (RFC 9112 7.1)"
BARE = "a reader may take a bare LF for a line end (RFC 9112 2.2); one that does not, sees another message"
TRAILER = "framing must not stand in trailers (RFC 9110 6.5.1); it drops it"
EMPTY = "empty lines before a request should be taken (RFC 9112 2.2): we take four, h11 none, the others any"
CONTROL = "control characters in values are refused or replaced (RFC 9110 5.5); logs and terminals read them"
DROPPED = "nginx drops a header that it cannot name, and goes on"
HOSTS = "a Host that is missing or no host must be refused (RFC 9112 3.2)"
TARGET = "read more freely there; here a target is what RFC 3986 spells, of this host"
LINE = "parts of the request line may be parted by other white space (RFC 9112 3); it makes no second message"
VERSION = "only HTTP/1.0 and HTTP/1.1 are spoken here; it answers others as HTTP/1.1"
METHOD = "a method is any token (RFC 9110 9.1); only those that a client of ours has use for are read"
TAB = "nginx takes only a space there; RFC 9110 5.6.3 allows a tab"
EXPECT = "an expectation that cannot be met may be refused (RFC 9110 10.1.1), or ignored"

GET = b"GET / HTTP/1.1\r\n"
HOST = b"Host: a\r\n"
POST = b"POST / HTTP/1.1\r\nHost: a\r\n"
CODED = b"Transfer-Encoding: chunked\r\n"
CHUNKS = POST + CODED + b"\r\n"
LAST = b"0\r\n\r\n"


class Case(NamedTuple):
    name: str
    sent: bytes
    ours: int
    others: frozenset[str] = frozenset()
    why: str = ""


def case(name: str, sent: bytes, ours: int, others: str = "", why: str = "") -> Case:
    return Case(name, sent, ours, frozenset(others.split()), why)


CASES = [
    case(
        "length and coding", POST + b"Content-Length: 5\r\n" + CODED + b"\r\n" + LAST, 400, "h11 haproxy", FRAMED_TWICE
    ),
    case("coding and length", POST + CODED + b"Content-Length: 5\r\n\r\n" + LAST, 400, "h11 haproxy", FRAMED_TWICE),
    case("length twice, equal", POST + b"Content-Length: 1\r\nContent-Length: 1\r\n\r\na", 400, "h11 haproxy", EQUAL),
    case("length twice, different", POST + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nab", 400),
    case("length list", POST + b"Content-Length: 1, 1\r\n\r\na", 400, "h11 haproxy", EQUAL),
    case("length with plus", POST + b"Content-Length: +1\r\n\r\na", 400),
    case("length negative", POST + b"Content-Length: -1\r\n\r\na", 400),
    case("length hexadecimal", POST + b"Content-Length: 0x1\r\n\r\na", 400),
    case("length with space inside", POST + b"Content-Length: 1 1\r\n\r\na", 400),
    case("length empty", POST + b"Content-Length:\r\n\r\na", 400),
    case("length beyond 64 bits", POST + b"Content-Length: 99999999999999999999999\r\n\r\na", 400),
    case("length with underscore", POST + b"Content-Length: 1_0\r\n\r\n0123456789", 400),
    case("length with vertical tab", POST + b"Content-Length: \x0b1\r\n\r\na", 400),
    case("length with leading zero", POST + b"Content-Length: 01\r\n\r\na", 0),
    case("length in Arabic digits", POST + b"Content-Length: \xd9\xa1\r\n\r\na", 400),
    case("coding unknown", POST + b"Transfer-Encoding: xchunked\r\n\r\n" + LAST, 400),
    case("coding identity", POST + b"Transfer-Encoding: identity\r\n\r\n", 400),
    case("coding gzip then chunked", POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n" + LAST, 400),
    case("coding chunked then gzip", POST + b"Transfer-Encoding: chunked, gzip\r\n\r\n" + LAST, 400),
    case("coding chunked twice in a list", POST + b"Transfer-Encoding: chunked, chunked\r\n\r\n" + LAST, 400),
    case("coding twice", POST + CODED + CODED + b"\r\n" + LAST, 400),
    case("coding twice, second identity", POST + CODED + b"Transfer-Encoding: identity\r\n\r\n" + LAST, 400),
    case("coding quoted", POST + b'Transfer-Encoding: "chunked"\r\n\r\n' + LAST, 400),
    case("coding with vertical tab", POST + b"Transfer-Encoding: \x0bchunked\r\n\r\n" + LAST, 400),
    case("coding with a parameter", POST + b"Transfer-Encoding: chunked;q=1\r\n\r\n" + LAST, 400),
    case("coding after a tab", POST + b"Transfer-Encoding:\tchunked\r\n\r\n" + LAST, 0, "nginx", TAB),
    case("coding with a space after it", POST + b"Transfer-Encoding: chunked \r\n\r\n" + LAST, 0),
    case("coding in capitals", POST + b"Transfer-Encoding: CHUNKED\r\n\r\n" + LAST, 0),
    case("coding empty", POST + b"Transfer-Encoding:\r\n\r\n", 400),
    case("coding in HTTP/1.0", b"POST / HTTP/1.0\r\nHost: a\r\n" + CODED + b"\r\n" + LAST, 400, "h11 haproxy", OLD),
    case("coding with a space before the colon", POST + b"Transfer-Encoding : chunked\r\n\r\n" + LAST, 400),
    case("coding folded", POST + b"Transfer-Encoding:\r\n chunked\r\n\r\n" + LAST, 400, "h11 haproxy", FOLD),
    case("chunk", CHUNKS + b"1\r\na\r\n" + LAST, 0),
    case("chunk size with leading zeros", CHUNKS + b"0001\r\na\r\n" + LAST, 0),
    case("chunk size prefixed 0x", CHUNKS + b"0x1\r\na\r\n" + LAST, 400),
    case("chunk size signed", CHUNKS + b"+1\r\na\r\n" + LAST, 400),
    case("chunk size negative", CHUNKS + b"-1\r\na\r\n" + LAST, 400),
    case("chunk size with underscore", CHUNKS + b"1_0\r\n0123456789abcdef\r\n" + LAST, 400),
    case("chunk size followed by a space", CHUNKS + b"1 \r\na\r\n" + LAST, 400, "h11 nginx haproxy", SPACE),
    case("chunk size after a space", CHUNKS + b" 1\r\na\r\n" + LAST, 400),
    case("chunk size empty", CHUNKS + b"\r\na\r\n" + LAST, 400),
    case("chunk size beyond 64 bits", CHUNKS + b"fffffffffffffffff1\r\na\r\n" + LAST, 400),
    case("chunk size ends in a bare LF", CHUNKS + b"1\na\r\n" + LAST, 400, "nginx haproxy", BARE),
    case("chunk size ends in a bare CR", CHUNKS + b"1\ra\r\n" + LAST, 400),
    case("chunk extension", CHUNKS + b"1;a=b\r\na\r\n" + LAST, 0),
    case("chunk extension with a bare LF", CHUNKS + b"1;a\n=b\r\na\r\n" + LAST, 400),
    case("chunk longer than its size", CHUNKS + b"1\r\nab\r\n" + LAST, 400),
    case("chunk without its line end", CHUNKS + b"1\r\na" + LAST, 400),
    case("chunk ends in a bare LF", CHUNKS + b"1\r\na\n" + LAST, 400, "nginx haproxy", BARE),
    case("last chunk with bare LFs", CHUNKS + b"0\n\n", 400, "nginx haproxy", BARE),
    case("trailer", CHUNKS + b"0\r\nX: y\r\n\r\n", 0),
    case("trailer length", CHUNKS + b"0\r\nContent-Length: 5\r\n\r\n", 400, "h11 nginx haproxy", TRAILER),
    case("trailer with a bare LF", CHUNKS + b"0\r\nX: y\n\r\n", 400, "h11 nginx haproxy", BARE),
    case("bare LF after the request line", b"GET / HTTP/1.1\nHost: a\r\n\r\n", 400, "h11 nginx haproxy", BARE),
    case("bare LF after a header", GET + b"Host: a\n\r\n", 400, "h11 nginx haproxy", BARE),
    case("bare LF at the end of the head", GET + b"Host: a\r\n\n", 400, "h11 nginx haproxy", BARE),
    case("all bare LF", b"GET / HTTP/1.1\nHost: a\n\n", 400, "h11 nginx haproxy", BARE),
    case("bare CR in a value", GET + HOST + b"X: a\rb\r\n\r\n", 400),
    case("bare CR after the request line", b"GET / HTTP/1.1\rHost: a\r\n\r\n", 400),
    case("CR CR LF", GET + b"Host: a\r\r\n\r\n", 400, "nginx", BARE),
    case("bare LF before the request", b"\n" + GET + HOST + b"\r\n", 400, "nginx haproxy", BARE),
    case("empty line before the request", b"\r\n" + GET + HOST + b"\r\n", 0, "h11", EMPTY),
    case("twenty empty lines before the request", b"\r\n" * 20 + GET + HOST + b"\r\n", 400, "nginx haproxy", EMPTY),
    case("header folded", GET + HOST + b"X: a\r\n b\r\n\r\n", 400, "h11 haproxy", FOLD),
    case("header folded with a tab", GET + HOST + b"X: a\r\n\tb\r\n\r\n", 400, "h11 haproxy", FOLD),
    case("first header after a space", GET + b" Host: a\r\n\r\n", 400),
    case("host folded", GET + b"Host:\r\n a\r\n\r\n", 400, "h11 haproxy", FOLD),
    case("space before a colon", GET + HOST + b"X : a\r\n\r\n", 400),
    case("tab before a colon", GET + HOST + b"X\t: a\r\n\r\n", 400),
    case("header without a name", GET + HOST + b": a\r\n\r\n", 400),
    case("header without a colon", GET + HOST + b"X\r\n\r\n", 400, "nginx", DROPPED),
    case("zero byte in a name", GET + HOST + b"X\0: a\r\n\r\n", 400),
    case("parenthesis in a name", GET + HOST + b"X(: a\r\n\r\n", 400, "nginx", DROPPED),
    case("byte beyond ASCII in a name", GET + HOST + b"X\xe9: a\r\n\r\n", 400, "nginx", DROPPED),
    case("zero byte in a value", GET + HOST + b"X: a\0b\r\n\r\n", 400, "haproxy", CONTROL),
    case("control character in a value", GET + HOST + b"X: a\x01b\r\n\r\n", 400, "h11 nginx haproxy", CONTROL),
    case("delete in a value", GET + HOST + b"X: a\x7fb\r\n\r\n", 400, "h11 nginx haproxy", CONTROL),
    case("escape in a value", GET + HOST + b"X: \x1b[31m\r\n\r\n", 400, "h11 nginx haproxy", CONTROL),
    case("byte beyond ASCII in a value", GET + HOST + b"X: a\xffb\r\n\r\n", 0),
    case("empty value", GET + HOST + b"X:\r\n\r\n", 0),
    case("name with an underscore", GET + HOST + b"X_Y: a\r\n\r\n", 0),
    case("no host", GET + b"X: a\r\n\r\n", 400, "haproxy", HOSTS),
    case("host empty", GET + b"Host:\r\n\r\n", 400, "h11 haproxy", HOSTS),
    case("host twice", GET + HOST + b"Host: b\r\n\r\n", 400),
    case("host twice, equal", GET + HOST + HOST + b"\r\n", 400, "haproxy", EQUAL),
    case("host with a path", GET + b"Host: a/b\r\n\r\n", 400, "h11 haproxy", HOSTS),
    case("host with a user", GET + b"Host: u@a\r\n\r\n", 400, "h11 nginx haproxy", HOSTS),
    case("host with a space", GET + b"Host: a b\r\n\r\n", 400, "h11 haproxy", HOSTS),
    case("host list", GET + b"Host: a, b\r\n\r\n", 400, "h11 haproxy", HOSTS),
    case("absolute target", b"GET http://a/x HTTP/1.1\r\n" + HOST + b"\r\n", 0),
    case("absolute target of another host", b"GET http://b/x HTTP/1.1\r\n" + HOST + b"\r\n", 400, "h11 nginx", TARGET),
    case("absolute target with a user", b"GET http://u:p@a/ HTTP/1.1\r\n" + HOST + b"\r\n", 400, "h11 haproxy", TARGET),
    case(
        "absolute target of another scheme",
        b"GET file://a/x HTTP/1.1\r\n" + HOST + b"\r\n",
        400,
        "h11 nginx haproxy",
        TARGET,
    ),
    case("target with a fragment", b"GET /x#y HTTP/1.1\r\n" + HOST + b"\r\n", 400, "h11 nginx", TARGET),
    case("target with a space", b"GET /a b HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    case("target with a control character", b"GET /\x01 HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    case("target beyond ASCII", b"GET /\xff HTTP/1.1\r\n" + HOST + b"\r\n", 400, "nginx", TARGET),
    case("target with a backslash", b"GET /a\\b HTTP/1.1\r\n" + HOST + b"\r\n", 400, "h11 nginx haproxy", TARGET),
    case("target without a slash", b"GET a HTTP/1.1\r\n" + HOST + b"\r\n", 400, "h11 haproxy", TARGET),
    case("tunnel", b"CONNECT a:1 HTTP/1.1\r\n" + HOST + b"\r\n", 400, "h11", TARGET),
    case("HTTP/0.9", b"GET /\r\n\r\n", 505),
    case("HTTP/1.2", b"GET / HTTP/1.2\r\n" + HOST + b"\r\n", 400, "h11 nginx haproxy", VERSION),
    case("HTTP/2.0", b"GET / HTTP/2.0\r\n" + HOST + b"\r\n", 505, "h11 haproxy", VERSION),
    case("HTTP/1.10", b"GET / HTTP/1.10\r\n" + HOST + b"\r\n", 400, "nginx", VERSION),
    case("version in small letters", b"GET / http/1.1\r\n" + HOST + b"\r\n", 400),
    case("space after the version", b"GET / HTTP/1.1 \r\n" + HOST + b"\r\n", 400, "nginx", LINE),
    case("two spaces before the target", b"GET  / HTTP/1.1\r\n" + HOST + b"\r\n", 0, "h11", LINE),
    case("two spaces after the target", b"GET /  HTTP/1.1\r\n" + HOST + b"\r\n", 0, "h11", LINE),
    case("tab before the target", b"GET\t/ HTTP/1.1\r\n" + HOST + b"\r\n", 400, "haproxy", LINE),
    case("method in small letters", b"get / HTTP/1.1\r\n" + HOST + b"\r\n", 400, "h11 haproxy", METHOD),
    case("method unknown", b"FOO / HTTP/1.1\r\n" + HOST + b"\r\n", 400, "h11 nginx haproxy", METHOD),
    case("HTTP/2 preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, "h11", VERSION),
    case("TLS greeting", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
    case(
        "expectation unknown", POST + b"Content-Length: 1\r\nExpect: 200-ok\r\n\r\na", 417, "h11 nginx haproxy", EXPECT
    ),
    case("plain", GET + HOST + b"\r\n", 0),
    case("plain HTTP/1.0", b"GET / HTTP/1.0\r\n\r\n", 0),
    case("body", POST + b"Content-Length: 1\r\n\r\na", 0),
    case(
        "offer of h2c",
        POST
        + b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMA\r\nContent-Length: 2\r\n\r\nab",
        0,
    ),
]

OK = b"HTTP/1.1 200 OK\r\n"
ANSWERS = [
    ("length", OK + b"Content-Length: 2\r\n\r\nab", True),
    ("chunks", OK + CODED + b"\r\n1\r\na\r\n" + LAST, True),
    ("chunks with a trailer", OK + CODED + b"\r\n1\r\na\r\n0\r\nX: y\r\n\r\n", True),
    ("last chunk with an extension", OK + CODED + b"\r\n1\r\na\r\n000;x\r\n\r\n", True),
    ("until the end of the connection", OK + b"\r\nabc", True),
    ("no content", b"HTTP/1.1 204 No Content\r\n\r\n", True),
    ("continue before it", b"HTTP/1.1 100 Continue\r\n\r\n" + OK + b"Content-Length: 1\r\n\r\na", True),
    ("hints before it", b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + OK + b"Content-Length: 1\r\n\r\na", True),
    ("length and coding", OK + b"Content-Length: 2\r\n" + CODED + b"\r\n" + LAST, False),
    ("coding and length", OK + CODED + b"Content-Length: 2\r\n\r\n" + LAST, False),
    ("length twice", OK + b"Content-Length: 1\r\nContent-Length: 1\r\n\r\na", False),
    ("length list", OK + b"Content-Length: 1, 1\r\n\r\na", False),
    ("length negative", OK + b"Content-Length: -1\r\n\r\na", False),
    ("coding gzip", OK + b"Transfer-Encoding: gzip\r\n\r\nabc", False),
    ("coding gzip then chunked", OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n" + LAST, False),
    ("coding twice", OK + CODED + CODED + b"\r\n" + LAST, False),
    ("coding in HTTP/1.0", b"HTTP/1.0 200 OK\r\n" + CODED + b"\r\n" + LAST, False),
    ("more than its length", OK + b"Content-Length: 1\r\n\r\nab", False),
    ("line ends after its length", OK + b"Content-Length: 1\r\n\r\na\r\n\r\n", False),
    ("line end after the last chunk", OK + CODED + b"\r\n1\r\na\r\n" + LAST + b"\r\n", False),
    ("bare LF after the last chunk", OK + CODED + b"\r\n1\r\na\r\n" + LAST + b"\n", False),
    ("second answer after the last chunk", OK + CODED + b"\r\n" + LAST + OK + b"\r\n", False),
    ("second answer after its length", OK + b"Content-Length: 1\r\n\r\na" + OK + b"Content-Length: 0\r\n\r\n", False),
    ("other protocol", b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n", False),
    ("line end before it", b"\r\n" + OK + b"Content-Length: 1\r\n\r\na", False),
    ("bare LF", b"HTTP/1.1 200 OK\nContent-Length: 0\n\n", False),
    ("bare CR in a value", OK + b"X: a\rSet-Cookie: b\r\nContent-Length: 0\r\n\r\n", False),
    ("header folded", OK + b"X: a\r\n b\r\nContent-Length: 0\r\n\r\n", False),
    ("zero byte in a value", OK + b"X: a\0\r\nContent-Length: 0\r\n\r\n", False),
    ("space before a colon", OK + b"Content-Length : 0\r\n\r\n", False),
    ("chunk size with a space", OK + CODED + b"\r\n1 \r\na\r\n" + LAST, False),
    ("chunk ends in a bare LF", OK + CODED + b"\r\n1\r\na\n" + LAST, False),
    ("status of two digits", b"HTTP/1.1 20 OK\r\nContent-Length: 0\r\n\r\n", False),
    ("HTTP/2.0", b"HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n", False),
    ("no HTTP", b"SSH-2.0-OpenSSH_9.2\r\n", False),
]
