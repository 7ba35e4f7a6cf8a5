"""Keep what tells of all tenants from those whom it does not concern.

Comes in: pages, the keys, and where the router listens. Goes out: the same pages behind a gate. Where any key has
`operate = true`, such a key opens them: as a client sends it, or as the password that a browser asks for. Where none
has, they are open on a loopback address, to whoever names it so (a page elsewhere could have its own name lead here),
and shut on any other.
"""

from __future__ import annotations

import binascii
from collections.abc import Mapping
from ipaddress import ip_address

from offtake.route.asking import caller_of
from offtake.route.config import Listen
from offtake.route.heads import header
from offtake.route.keys import Keyring
from offtake.route.office import Page
from offtake.route.seams import Feed, Head, Reply

PLAIN = ((b"content-type", b"text/plain; charset=utf-8"), (b"x-content-type-options", b"nosniff"))
ASK = (*PLAIN, (b"www-authenticate", b'Basic realm="offtake", charset="UTF-8"'))
LOCAL = frozenset({b"localhost", b"127.0.0.1", b"[::1]"})


def gated(pages: Mapping[bytes, Page], keyring: Keyring, listen: Listen) -> dict[bytes, Page]:
    """Return the pages behind their gate."""
    needed = any(caller.operate for caller in keyring.callers.values())
    return {
        path: gate(page, keyring if needed else None, loopback=is_loopback(listen.host)) for path, page in pages.items()
    }


def gate(page: Page, keyring: Keyring | None, *, loopback: bool) -> Page:
    """Return a page that opens to a key that may operate; without a keyring, to this machine only."""

    def opened(head: Head) -> Reply | Feed:
        if keyring is not None:
            caller = caller_of(keyring, head.headers) or keyring.caller(password_of(head))
            if caller is None:
                return Reply(401, ASK, b"A key is needed that has operate = true.\n")
            return page(head) if caller.operate else Reply(403, PLAIN, b"This key may not operate.\n")
        if loopback and host_of(head) in LOCAL:
            return page(head)
        told = b"Give a key operate = true to see this; without one it is shown at a loopback address only.\n"
        return Reply(403, PLAIN, told)

    return opened


def password_of(head: Head) -> bytes:
    """Return the password that a browser sends; empty if there is none."""
    scheme, _, encoded = (header(head.headers, b"authorization") or b"").partition(b" ")
    if scheme.lower() != b"basic":
        return b""
    try:
        return binascii.a2b_base64(encoded.strip(), strict_mode=True).partition(b":")[2]
    except binascii.Error:
        return b""


def host_of(head: Head) -> bytes:
    """Return the name by which the router was asked, without its port."""
    name = (header(head.headers, b"host") or b"").lower()
    return name[: name.index(b"]") + 1] if name.startswith(b"[") and b"]" in name else name.partition(b":")[0]


def is_loopback(host: str) -> bool:
    """Tell whether only this machine reaches an address."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
