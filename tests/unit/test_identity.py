"""Keys on disk, signatures, certificates, and rosters that are refused with a reason."""

from __future__ import annotations

import stat
import subprocess
import sys
from pathlib import Path

import pytest

from net.identity import (
    Identity,
    IdentityError,
    Roster,
    RosterEntry,
    parse_address,
    self_signed_certificate,
    verify_signature,
)


def entry(identity_id: int, role: str = "node", **changes: object) -> RosterEntry:
    values = {"id": identity_id, "name": f"n{identity_id}", "role": role, "public_key": bytes([identity_id]) * 32}
    return RosterEntry(**(values | changes))  # type: ignore[arg-type]


def test_the_key_is_made_once_and_only_for_its_owner(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "node.pem"
    first = Identity.load_or_create(path, 3)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert Identity.load_or_create(path, 3) == first
    assert [child.name for child in path.parent.iterdir()] == ["node.pem"]


def test_processes_that_start_at_once_agree_on_one_key(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from net.identity import Identity;"
        "print(Identity.load_or_create(Path(sys.argv[1]), 1).public_key.hex())"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "key.pem")]
    started = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    keys = {process.communicate(timeout=60)[0] for process in started}
    assert len(keys) == 1
    assert len(keys.pop().strip()) == 64


@pytest.mark.parametrize(
    ("text", "mode", "what"),
    [(None, 0o644, "chmod 600"), (b"nonsense", 0o600, "no usable private key"), (b"", 0o600, "no usable private key")],
)
def test_an_unusable_key_file_is_refused_by_name(tmp_path: Path, text: bytes | None, mode: int, what: str) -> None:
    path = tmp_path / "node.pem"
    Identity.load_or_create(path, 1)
    if text is not None:
        path.write_bytes(text)
    path.chmod(mode)
    with pytest.raises(IdentityError, match=what) as caught:
        Identity.load_or_create(path, 1)
    assert str(path) in str(caught.value)


def test_signatures_hold_for_one_key_and_one_text() -> None:
    one, other = Identity.generate(1), Identity.generate(2)
    signature = one.sign(b"text")
    assert verify_signature(one.public_key, b"text", signature)
    assert not verify_signature(one.public_key, b"texts", signature)
    assert not verify_signature(other.public_key, b"text", signature)
    assert not verify_signature(one.public_key, b"text", signature[:-1])
    assert not verify_signature(b"", b"text", signature)


def test_the_certificate_carries_the_signing_key_and_the_text_form_hides_it() -> None:
    identity = Identity.generate(1)
    certificate, key = self_signed_certificate(identity)
    assert key.public_key().public_bytes_raw() == identity.public_key
    assert certificate.public_key() == key.public_key()
    assert bytes(identity.signing_key).hex() not in repr(identity)


def test_a_roster_survives_its_file(tmp_path: Path) -> None:
    path = tmp_path / "roster.toml"
    roster = Roster(
        [
            entry(0, address=("127.0.0.1", 7000)),
            entry(1, address=("::1", 7001), name='quote " and ü'),
            entry(100, "gateway", expires_s=1_900_000_000.25),
            entry(200, "operator"),
        ]
    )
    roster.save(path)
    assert Roster.load(path) == roster
    assert [member.id for member in roster.of_role("node")] == [0, 1]
    assert [child.name for child in tmp_path.iterdir()] == ["roster.toml"]


def test_an_entry_expires_at_its_second() -> None:
    assert not entry(1).expired(1e12)
    assert entry(1, expires_s=10.0).expired(10.0)
    assert not entry(1, expires_s=10.0).expired(9.9)


@pytest.mark.parametrize(
    ("entries", "what"),
    [
        ([entry(1), entry(1, public_key=b"x" * 32)], "id 1 appears twice"),
        ([entry(1), entry(2, public_key=b"\1" * 32)], "share one public key"),
        ([entry(1, "king")], "role 'king'"),
        ([entry(1, public_key=b"short")], "32 bytes"),
        ([entry(1, address=("h", 70_000))], "port 70000"),
        ([entry(1, name="two\nlines")], "printable"),
    ],
)
def test_bad_members_are_refused(entries: list[RosterEntry], what: str) -> None:
    with pytest.raises(IdentityError, match=what):
        Roster(entries)


KEY = "00" * 32
GOOD = f'[[member]]\nid = 1\nname = "a"\nrole = "node"\npublic_key = "{KEY}"\n'


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("[[member]", "not a TOML roster"),
        ("x = 1", "member"),
        (GOOD.replace("id = 1\n", ""), "lacks id"),
        (GOOD.replace("id = 1", "id = true"), "id of member 'a' must be a int"),
        (GOOD.replace(KEY, "zz"), "not hexadecimal"),
        (GOOD + "addres = 'x'\n", "unknown field 'addres'"),
        (GOOD + "address = 'x'\n", "must be host:port"),
        (GOOD + "expires = 2030-01-01T00:00:00\n", "needs an offset"),
    ],
)
def test_a_bad_roster_file_is_refused_with_its_name(tmp_path: Path, text: str, what: str) -> None:
    path = tmp_path / "roster.toml"
    path.write_text(text)
    with pytest.raises(IdentityError, match=what) as caught:
        Roster.load(path)
    assert str(caught.value).startswith(str(path))


@pytest.mark.parametrize("text", ["", "host", ":1", "h:", "h:x", "h:99999", "h:-1"])
def test_bad_addresses_are_refused(text: str) -> None:
    with pytest.raises(IdentityError, match="host:port"):
        parse_address(text)
