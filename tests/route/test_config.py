from __future__ import annotations

from pathlib import Path

import pytest

from offtake.errors import InputError
from offtake.policy.view import Policy
from offtake.route.config import is_address, read_config
from offtake.route.keys import key_text, read_keys
from tests.rehearse.fleets import small_fleet
from tests.route.setup import SECRETS, config, route_text, write_setup


def faults_of(folder: Path, text: str) -> list[str]:
    with pytest.raises(InputError) as caught:
        config(folder, text)
    return [str(fault) for fault in caught.value.faults]


def test_a_small_file_is_enough(tmp_path: Path) -> None:
    found = config(tmp_path)
    assert (found.region, found.policy, found.shadow) == (0, Policy.BID_PRICE, None)
    assert found.file.listen.port == 8080
    assert found.beside("keys.toml") == tmp_path / "keys.toml"


def test_all_faults_are_told_at_once_each_with_its_place_and_its_mending(tmp_path: Path) -> None:
    text = route_text().replace('pool = "a-two"', 'pool = "a-tow"').replace("http://127.0.0.1:9003/base", "ftp://x")
    text = 'policy = "best_price"\n' + text + "\n[retry]\nbudget_share = 2\n[listen]\nport = 70000\n"
    told = "\n".join(faults_of(tmp_path, text))
    assert "policy: is not known (found 'best_price'). Did you mean 'bid_price'?" in told
    assert "upstream[1].pool: is not known (found 'a-tow'). Did you mean 'a-two'?" in told
    assert "upstream[2].url: is no address of an upstream (found 'ftp://x')" in told
    assert "pool a-two has no upstream" in told
    assert "retry.budget_share: must be a share from 0 to 1 (found '2.0')" in told
    assert "listen.port: must be a port from 0 to 65535 (found '70000')" in told
    assert len(told.splitlines()) == 6


@pytest.mark.parametrize("text", ["[listen", "policy = 3", "unknown = 1", "[[upstream]]\npool = 1"])
def test_a_file_that_is_not_a_routers_is_one_fault(tmp_path: Path, text: str) -> None:
    [fault] = faults_of(tmp_path, text)
    assert "is not a router's" in fault


def test_a_missing_file_is_one_fault(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read: No such file"):
        read_config(tmp_path / "route.toml", small_fleet())


def test_tenants_are_checked_against_the_fleet(tmp_path: Path) -> None:
    text = (
        route_text()
        .replace('name = "umbrella"', 'name = "acme"')
        .replace("requests_per_minute = 60", "usd_per_day = -1")
    )
    told = "\n".join(faults_of(tmp_path, text))
    assert "tenant[1].name: is there twice (found 'acme')" in told
    assert "tenant[1].usd_per_day: must not be negative" in told


def test_a_credential_that_is_not_there_is_a_fault_that_does_not_show_it(tmp_path: Path) -> None:
    text = route_text().replace('key_env = "B_KEY"', 'key_file = "b.key"')
    [fault] = faults_of(tmp_path, text)
    assert "the credential of pool b-one is not there" in fault


@pytest.mark.parametrize(
    ("url", "good"),
    [
        ("http://127.0.0.1:8000", True),
        ("https://api.example.com/v2", True),
        ("http://[::1]:9", True),
        ("http://", False),
        ("http://h:99999", False),
        ("http://user:word@h", False),
        ("http://h?x=1", False),
        ("http://h/\r\nx: y", False),
        ("file:///etc/passwd", False),
    ],
)
def test_only_an_address_is_an_upstream(url: str, good: bool) -> None:
    assert is_address(url) is good


def test_a_key_is_known_by_its_hash_and_brings_its_tenants_workloads(tmp_path: Path) -> None:
    found = config(tmp_path)
    ring = read_keys(tmp_path / "keys.toml", found.file.tenant)
    caller = ring.caller(SECRETS["umbrella"].encode())
    assert caller is not None
    assert (caller.tenant, caller.name, list(caller.workloads)) == (1, "main", found.file.tenant[1].workloads)
    assert ring.caller(b"ot-acmf") is None
    assert ring.caller(b"") is None
    assert b"ot-acme" not in (tmp_path / "keys.toml").read_bytes()


def test_faults_of_keys_are_told_at_once_and_show_no_hash(tmp_path: Path) -> None:
    tenants = config(tmp_path).file.tenant
    path = tmp_path / "keys.toml"
    path.write_text(
        key_text("one", "nobody", "") + key_text("two", "acme", "") * 2 + '\n[[key]]\nsha256 = "zz"\ntenant = "acme"\n'
    )
    with pytest.raises(InputError) as caught:
        read_keys(path, tenants)
    told = "\n".join(str(fault) for fault in caught.value.faults)
    assert len(caught.value.faults) == 3
    assert "key[0], column tenant: the tenant is not known (found 'nobody')" in told
    assert "a key is there twice" in told
    assert "key[3]: sha256 is no hash" in told
    assert "3fc4ccfe745870e2c0d99f71f30ff0656c8dedd41cc1d7d3d376b0dbe685e2f3" not in told


def test_a_key_may_not_reach_beyond_its_tenant(tmp_path: Path) -> None:
    found = config(tmp_path)
    only, other = found.file.tenant[1].workloads[0], found.file.tenant[0].workloads[0]
    path = write_setup(tmp_path).parent / "keys.toml"
    path.write_text(key_text("s", "umbrella", "") + f'workloads = ["{only}", "{other}"]\n')
    with pytest.raises(InputError, match="is no workload of the tenant"):
        read_keys(path, found.file.tenant)
