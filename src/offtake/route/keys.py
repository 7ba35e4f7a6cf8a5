"""Know who asks: clients' keys, kept as hashes, each with what it may ask for.

Comes in: ``keys.toml`` and the key that a request carries. Goes out: whose it is, or nothing. The file holds SHA-256
hashes of keys drawn at random, so that reading it gives no key; a key is looked up by its hash, so that how long it
takes says nothing about keys that exist.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from offtake.errors import Fault, InputError
from offtake.route.config import TenantRow

HEX = 64
PREFIX = "ot-"  #: so that a key can be told from others where it should not be


class KeyRow(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Describe one key."""

    sha256: str  #: Hash of the key, as hexadecimal digits.
    tenant: str  #: Whose it is.
    name: str = ""  #: To tell it from others of the tenant.
    models: list[str] = []  #: Models it may ask for; empty: all.
    workloads: list[str] = []  #: Workloads it may ask for; empty: all of the tenant.
    operate: bool = False  #: Whether it opens the live page and the metrics, which tell of all tenants.


class KeyFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Hold ``keys.toml``."""

    key: list[KeyRow] = []  #: Every key that opens the router.


class Caller(NamedTuple):
    """Say who asks: the index of the tenant, and the scope of the key."""

    tenant: int
    who: str  #: The tenant's name, which stays when tenants are numbered anew.
    name: str
    digest: bytes
    models: frozenset[str]
    workloads: tuple[str, ...]
    operate: bool = False


class Keyring:
    """Hold the callers by the hash of their key; a key itself is never kept."""

    def __init__(self, callers: dict[bytes, Caller]) -> None:
        self.callers = callers

    def caller(self, secret: bytes) -> Caller | None:
        """Return whose key ``secret`` is, or None."""
        digest = hashlib.sha256(secret).digest()
        found = self.callers.get(digest)
        return found if found is not None and hmac.compare_digest(found.digest, digest) else None


def read_keys(path: Path, tenants: Sequence[TenantRow]) -> Keyring:
    """Read and check ``keys.toml`` against the tenants of the router.

    Raises
    ------
    InputError
        With one fault for each thing that is wrong; no fault shows a hash.
    """
    mend = "`offtake route RUN --new-key TENANT` adds a key."
    try:
        rows = msgspec.toml.decode(path.read_bytes(), type=KeyFile).key
    except OSError as error:
        raise InputError([Fault(str(path), f"the file cannot be read: {error.strerror}", mend)]) from None
    except (msgspec.DecodeError, ValueError) as error:
        raise InputError([Fault(str(path), f"the file holds no keys: {error}", mend)]) from None
    names = {row.name: index for index, row in enumerate(tenants)}
    faults = [fault for index, row in enumerate(rows) for fault in key_faults(str(path), index, row, tenants)]
    if len({row.sha256 for row in rows}) < len(rows):
        faults.append(Fault(str(path), "a key is there twice", "Keep one of the two."))
    if faults:
        raise InputError(faults)
    own = {row.name: tuple(row.workloads) for row in tenants}
    callers = [
        Caller(
            names[row.tenant],
            row.tenant,
            row.name,
            bytes.fromhex(row.sha256),
            frozenset(row.models),
            tuple(row.workloads) or own[row.tenant],
            row.operate,
        )
        for row in rows
    ]
    return Keyring({caller.digest: caller for caller in callers})


def key_faults(file: str, index: int, row: KeyRow, tenants: Sequence[TenantRow]) -> list[Fault]:
    """Return what is wrong with one key."""
    where, faults = f"key[{index}]", []
    tenant = next((each for each in tenants if each.name == row.tenant), None)
    if len(row.sha256) != HEX or not set(row.sha256) <= set("0123456789abcdef"):
        faults.append(Fault(file, "sha256 is no hash", "Write 64 hexadecimal digits in lower case.", row=where))
    if tenant is None:
        mend = f"Write one of: {', '.join(each.name for each in tenants)}." if tenants else "Add it to route.toml."
        faults.append(Fault(file, "the tenant is not known", mend, row=where, column="tenant", value=row.tenant))
    elif unknown := sorted(set(row.workloads) - set(tenant.workloads)):
        mend = f"Write some of: {', '.join(tenant.workloads)}."
        faults.append(
            Fault(file, "is no workload of the tenant", mend, row=where, column="workloads", value=unknown[0])
        )
    return faults


def key_text(secret: str, tenant: str, name: str) -> str:
    """Return the lines of ``keys.toml`` for a new key."""
    digest = hashlib.sha256(secret.encode()).hexdigest()
    named = f"name = {msgspec.json.encode(name).decode()}\n" if name else ""
    return f'\n[[key]]\nsha256 = "{digest}"\ntenant = {msgspec.json.encode(tenant).decode()}\n{named}'
