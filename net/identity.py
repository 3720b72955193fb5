"""Who a process is: one Ed25519 key, and the roster of everybody's public keys.

The same key signs votes (PyNaCl, the faster of the two libraries: 20 µs to sign, 54 to verify) and carries the
self-signed certificate of TLS 1.3 (cryptography, which aioquic wants). A certificate proves nothing here but the
possession of the key: peers are pinned by public key, never by name, date or issuer.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import secrets
import stat
import time
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.x509.oid import NameOID
from nacl.exceptions import BadSignatureError
from nacl.signing import SigningKey, VerifyKey

ROLES: Final = ("node", "gateway", "operator", "observer")
MONITOR_ROLES: Final = ("operator", "observer")
"""Who only dials: an operator may change the swarm, an observer looks on."""

PUBLIC_KEY_BYTES: Final = 32
SIGNATURE_BYTES: Final = 64
ID_MAX: Final = 2**32 - 1


class IdentityError(ValueError):
    """A key file or roster is unusable; the text says which, why, and what to do."""


@dataclass(frozen=True, slots=True)
class Identity:
    """This process: its id in the roster and its signing key (Ed25519, RFC 8032)."""

    id: int
    signing_key: SigningKey

    @classmethod
    def generate(cls, identity_id: int) -> Identity:
        """A fresh key from the operating system's randomness, kept nowhere."""
        return cls(identity_id, SigningKey.generate())

    @classmethod
    def load_or_create(cls, path: Path, identity_id: int) -> Identity:
        """The key in `path` (PEM, PKCS #8), made on the first start with mode 0600.

        Two processes that start at once agree on one key: the file appears whole or not at all, and the first wins.
        Raises IdentityError when the file is readable by others or holds no Ed25519 key.
        """
        if not path.exists():
            _create_key_file(path, SigningKey.generate())
        return cls(identity_id, _read_key_file(path))

    @property
    def public_key(self) -> bytes:
        """32 bytes."""
        return bytes(self.signing_key.verify_key)

    def sign(self, data: bytes) -> bytes:
        """64 bytes: the Ed25519 signature of `data`."""
        return self.signing_key.sign(data).signature

    def __repr__(self) -> str:
        return f"Identity(id={self.id}, public_key={self.public_key.hex()})"


def verify_signature(public_key: bytes, data: bytes, signature: bytes) -> bool:
    """Whether `signature` (64 bytes) over `data` was made by the owner of `public_key` (32 bytes).

    Anything of another length is simply not valid.
    """
    if len(public_key) != PUBLIC_KEY_BYTES or len(signature) != SIGNATURE_BYTES:
        return False
    try:
        VerifyKey(public_key).verify(data, signature)
    except BadSignatureError:
        return False
    return True


def self_signed_certificate(identity: Identity) -> tuple[x509.Certificate, Ed25519PrivateKey]:
    """A certificate over the identity's own key, with that key as TLS wants it."""
    key = Ed25519PrivateKey.from_private_bytes(bytes(identity.signing_key))
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"tradetui {identity.id}")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=3650))
        .sign(key, None)
    )
    return certificate, key


@dataclass(frozen=True, slots=True)
class RosterEntry:
    """One member. `address` is where it listens, None for one that only dials (a monitor)."""

    id: int
    name: str
    role: str
    """`node`, `gateway`, `operator` or `observer`."""
    public_key: bytes
    address: tuple[str, int] | None = None
    expires_s: float | None = None
    """Unix time after which the entry no longer counts; None: never."""

    def expired(self, now_s: float | None = None) -> bool:
        """Whether the entry has run out at `now_s` (Unix time, the clock's when None)."""
        return self.expires_s is not None and (time.time() if now_s is None else now_s) >= self.expires_s


class Roster:
    """Every member by id. Ids and keys are unique."""

    __slots__ = ("_by_id",)

    def __init__(self, entries: Iterable[RosterEntry]) -> None:
        """Raises IdentityError for a bad or doubled entry, naming it."""
        self._by_id: dict[int, RosterEntry] = {}
        owner: dict[bytes, RosterEntry] = {}
        for entry in entries:
            _check_entry(entry)
            if entry.id in self._by_id:
                raise IdentityError(f"roster: id {entry.id} appears twice; every member needs its own")
            if entry.public_key in owner:
                other = owner[entry.public_key]
                raise IdentityError(
                    f"roster: {entry.name!r} and {other.name!r} share one public key; make each its own key"
                )
            self._by_id[entry.id] = entry
            owner[entry.public_key] = entry

    def __iter__(self) -> Iterator[RosterEntry]:
        return iter(self._by_id.values())

    def __len__(self) -> int:
        return len(self._by_id)

    def __contains__(self, identity_id: object) -> bool:
        return identity_id in self._by_id

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Roster) and self._by_id == other._by_id

    def __hash__(self) -> int:
        return hash(tuple(self._by_id.values()))

    def get(self, identity_id: int) -> RosterEntry | None:
        """The member with this id, or None."""
        return self._by_id.get(identity_id)

    def of_role(self, role: str) -> tuple[RosterEntry, ...]:
        """The members of one role, by id."""
        return tuple(self._by_id[i] for i in sorted(self._by_id) if self._by_id[i].role == role)

    @classmethod
    def load(cls, path: Path) -> Roster:
        """Read a TOML roster: one `[[member]]` table each with `id name role public_key address expires`.

        `public_key` is 64 hexadecimal digits, `address` is `host:port` (IPv6 in brackets) and may be missing,
        `expires` is an optional TOML date-time with offset. Raises IdentityError that names file and member.
        """
        try:
            document = tomllib.loads(path.read_text(encoding="utf-8"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise IdentityError(f"{path}: not a TOML roster: {error}") from error
        except OSError as error:
            raise IdentityError(f"{path}: cannot read the roster: {error.strerror}") from error
        members = document.get("member")
        if not isinstance(members, list) or set(document) != {"member"}:
            raise IdentityError(f"{path}: a roster holds [[member]] tables and nothing else")
        try:
            return cls([_entry_from_table(table) for table in members])
        except IdentityError as error:
            raise IdentityError(f"{path}: {error}") from error

    def save(self, path: Path) -> None:
        """Write the roster as TOML; the file is replaced whole or left as it was."""
        text = "\n".join(_entry_as_toml(entry) for entry in self)
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
        try:
            _write_synced(temporary, text.encode(), 0o644)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
        _sync_folder(path.parent)


def _create_key_file(path: Path, key: SigningKey) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pem = Ed25519PrivateKey.from_private_bytes(bytes(key)).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        _write_synced(temporary, pem, 0o600)
        # A link fails where the name exists, a rename would replace the key that another process just made.
        with contextlib.suppress(FileExistsError):
            os.link(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    _sync_folder(path.parent)


def _read_key_file(path: Path) -> SigningKey:
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
        if mode & 0o077:
            raise IdentityError(f"{path}: the key is open to others (mode {mode:04o}); run: chmod 600 {path}")
        key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except OSError as error:
        raise IdentityError(f"{path}: cannot read the key: {error.strerror}") from error
    except (ValueError, TypeError) as error:
        if isinstance(error, IdentityError):
            raise
        raise IdentityError(f"{path}: no usable private key in it: {error}") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise IdentityError(f"{path}: holds a {type(key).__name__}, wanted an Ed25519 key")
    return SigningKey(key.private_bytes_raw())


def _write_synced(path: Path, data: bytes, mode: int) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _check_entry(entry: RosterEntry) -> None:
    if not 0 <= entry.id <= ID_MAX:
        raise IdentityError(f"roster: id {entry.id} of {entry.name!r} must be from 0 to {ID_MAX}")
    if not entry.name.isprintable() or not entry.name:
        raise IdentityError(f"roster: the name {entry.name!r} of id {entry.id} must be printable and not empty")
    if entry.role not in ROLES:
        raise IdentityError(f"roster: role {entry.role!r} of {entry.name!r} must be one of {', '.join(ROLES)}")
    if len(entry.public_key) != PUBLIC_KEY_BYTES:
        raise IdentityError(f"roster: the public key of {entry.name!r} must have {PUBLIC_KEY_BYTES} bytes")
    if entry.address is not None and not 0 <= entry.address[1] <= 65535:
        raise IdentityError(f"roster: port {entry.address[1]} of {entry.name!r} must be from 0 to 65535")


_FIELDS: Final[dict[str, type]] = {
    "id": int,
    "name": str,
    "role": str,
    "public_key": str,
    "address": str,
    "expires": datetime.datetime,
}
_REQUIRED: Final = ("id", "name", "role", "public_key")


def _entry_from_table(table: Any) -> RosterEntry:
    if not isinstance(table, dict):
        raise IdentityError("roster: every member is a [[member]] table")
    label = table.get("name", table.get("id", "?"))
    for name, value in table.items():
        if name not in _FIELDS:
            raise IdentityError(
                f"roster: member {label!r} has the unknown field {name!r}; allowed: {', '.join(_FIELDS)}"
            )
        if type(value) is not _FIELDS[name]:
            raise IdentityError(f"roster: {name} of member {label!r} must be a {_FIELDS[name].__name__}")
    for name in _REQUIRED:
        if name not in table:
            raise IdentityError(f"roster: member {label!r} lacks {name}")
    try:
        public_key = bytes.fromhex(table["public_key"])
    except ValueError as error:
        raise IdentityError(f"roster: public_key of member {label!r} is not hexadecimal") from error
    expires = table.get("expires")
    if expires is not None and expires.tzinfo is None:
        raise IdentityError(f"roster: expires of member {label!r} needs an offset, such as 2030-01-01T00:00:00Z")
    return RosterEntry(
        id=table["id"],
        name=table["name"],
        role=table["role"],
        public_key=public_key,
        address=parse_address(table["address"]) if "address" in table else None,
        expires_s=None if expires is None else expires.timestamp(),
    )


def parse_address(text: str) -> tuple[str, int]:
    """`host:port`, or `[IPv6]:port`. Raises IdentityError."""
    host, colon, port = text.rpartition(":")
    host = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if not colon or not host or not (port.isascii() and port.isdigit()) or int(port) > 65535:
        raise IdentityError(f"address {text!r} must be host:port, such as 127.0.0.1:7000 or [::1]:7000")
    return host, int(port)


def _entry_as_toml(entry: RosterEntry) -> str:
    lines = [
        "[[member]]",
        f"id = {entry.id}",
        f"name = {json.dumps(entry.name, ensure_ascii=False)}",
        f'role = "{entry.role}"',
        f'public_key = "{entry.public_key.hex()}"',
    ]
    if entry.address is not None:
        host, port = entry.address
        lines.append(f"address = {json.dumps(f'[{host}]:{port}' if ':' in host else f'{host}:{port}')}")
    if entry.expires_s is not None:
        moment = datetime.datetime.fromtimestamp(entry.expires_s, datetime.UTC)
        lines.append(f"expires = {moment.isoformat(timespec='microseconds')}")
    return "\n".join(lines) + "\n"
