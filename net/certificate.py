"""What a certificate says, the bytes that its signers sign, and how anybody checks it against the roster.

Every entry's digest covers its parent's digest, so the digest of an entry is the hash chain of the whole log up to it.
Signed bytes carry the epoch's context, so a signature never counts in another epoch, mode, phase, view or height.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import replace
from hashlib import sha256
from types import MappingProxyType
from typing import Final

from nacl.exceptions import BadSignatureError
from nacl.signing import VerifyKey

from net.durable import decode_witness, encode_witness
from net.messages import DECIDING, Certificate, Committed, Entry, EntryKind, Mode, Phase
from net.quorum import byzantine_quorum

GENESIS_DIGEST: Final = bytes(32)
"""The parent of the first entry of a log."""

_ENTRY_HEADER: Final = struct.Struct("<QQB")
_CONTEXT: Final = struct.Struct("<QBBQ")
_SIGNED: Final = struct.Struct("<BQQ")
_SIGNED_LABEL: Final = b"tradetui.vote.1"
_CONTEXT_LABEL: Final = b"tradetui.epoch.1"
_WORD_LABEL: Final = b"tradetui.word.1"


class CertificateError(ValueError):
    """The certificate proves nothing; the message says why."""


class TooFewSigners(CertificateError):
    """Fewer signers than the mode's quorum."""


class UnknownSigner(CertificateError):
    """A signer is not in the roster."""


class DuplicateSigner(CertificateError):
    """One node is counted twice."""


class WrongSignature(CertificateError):
    """A signature does not fit its signer's key and the certificate's statement."""


class WrongDigest(CertificateError):
    """The certificate is about another entry."""


class WrongMode(CertificateError):
    """The certificate is of another mode, phase, epoch or context than asked for."""


def entry_digest(parent: bytes, entry: Entry) -> bytes:
    """SHA-256 over the parent's digest and the entry (32 bytes): the hash chain of the log up to `entry`."""
    return sha256(parent + _ENTRY_HEADER.pack(entry.index, entry.term, entry.kind) + entry.payload).digest()


def epoch_context(epoch: int, mode: Mode, base_index: int, base_digest: bytes, witness: bool = False) -> bytes:
    """The digest that every signature of an epoch covers (32 bytes).

    `base_digest` is the hash chain of the sealed prefix, so the first quorum of a Byzantine epoch also vouches for all
    that came before it. `witness` sets the Byzantine log beside an AUTO epoch apart from the epoch's own log.
    """
    return sha256(_CONTEXT_LABEL + _CONTEXT.pack(epoch, mode, witness, base_index) + base_digest).digest()


def signed_bytes(context: bytes, phase: Phase, view: int, height: int, digest: bytes) -> bytes:
    """What a Byzantine vote signs. The digest covers the parent and the content of the block."""
    return _SIGNED_LABEL + context + _SIGNED.pack(phase, view, height) + digest


def leader_word_bytes(context: bytes, term: int, index: int, parent: bytes, digest: bytes) -> bytes:
    """What a Raft leader signs when it has seen an entry committed in `term`."""
    return _WORD_LABEL + context + _SIGNED.pack(0, term, index) + parent + digest


def with_word(committed: Committed, node: int, sign: Callable[[bytes], bytes]) -> Committed:
    """`committed` with the word of `node` as its proof, where it has no signer yet.

    Raft cores give none: whoever led, or leads later, gives its word for what it saw committed.
    """
    certificate = committed.certificate
    if certificate.mode is Mode.BFT or certificate.signers:
        return committed
    words = leader_word_bytes(
        certificate.context, certificate.term, certificate.index, certificate.parent, certificate.digest
    )
    return replace(committed, certificate=replace(certificate, signers=(node,), signatures=(sign(words),)))


class Verifier:
    """Ed25519 checks against one roster, with its keys unpacked once."""

    __slots__ = ("_keys", "quorum")

    def __init__(self, roster: Mapping[int, bytes]) -> None:
        """`roster` maps node id to the 32-byte public key."""
        self._keys = {node: VerifyKey(key) for node, key in roster.items()}
        self.quorum = byzantine_quorum(len(roster))

    @property
    def nodes(self) -> tuple[int, ...]:
        return tuple(self._keys)

    def knows(self, node: int) -> bool:
        return node in self._keys

    def verifies(self, node: int, message: bytes, signature: bytes) -> bool:
        """Whether `signature` is `node`'s over `message` (54 µs)."""
        key = self._keys.get(node)
        if key is None or len(signature) != 64:
            return False
        try:
            key.verify(message, signature)
        except BadSignatureError:
            return False
        return True

    def check_quorum(self, certificate: Certificate, verified: Mapping[int, bytes] = MappingProxyType({})) -> None:
        """Raise `CertificateError` unless a Byzantine quorum signed the statement of `certificate`.

        `verified` holds signatures of that very statement, by node, that need no second look.
        """
        signers = certificate.signers
        if len(signers) < self.quorum:
            raise TooFewSigners(
                f"entry {certificate.index}: {len(signers)} signers, a Byzantine quorum of {len(self._keys)} nodes"
                f" is {self.quorum}"
            )
        self._check_signers(certificate)
        message = signed_bytes(
            certificate.context, certificate.phase, certificate.term, certificate.index, certificate.digest
        )
        # The quorum is enough: signatures past it stay unverified.
        for node, signature in zip(signers[: self.quorum], certificate.signatures, strict=False):
            if verified.get(node) != signature and not self.verifies(node, message, signature):
                raise WrongSignature(f"entry {certificate.index}: the signature of node {node} does not fit")

    def check_word(self, certificate: Certificate) -> None:
        """Raise `CertificateError` unless one node, the Raft leader, signed the statement of `certificate`."""
        if len(certificate.signers) != 1:
            raise TooFewSigners(
                f"entry {certificate.index}: {len(certificate.signers)} signers, the leader's word is 1"
            )
        self._check_signers(certificate)
        message = leader_word_bytes(
            certificate.context, certificate.term, certificate.index, certificate.parent, certificate.digest
        )
        if not self.verifies(certificate.signers[0], message, certificate.signatures[0]):
            raise WrongSignature(
                f"entry {certificate.index}: the signature of leader {certificate.signers[0]} does not fit"
            )

    def _check_signers(self, certificate: Certificate) -> None:
        if len(certificate.signers) != len(certificate.signatures):
            raise WrongSignature(f"entry {certificate.index}: signers and signatures differ in number")
        if len(set(certificate.signers)) != len(certificate.signers):
            raise DuplicateSigner(f"entry {certificate.index}: a node signed twice: {certificate.signers}")
        for node in certificate.signers:
            if node not in self._keys:
                raise UnknownSigner(f"entry {certificate.index}: node {node} is not in the roster")


def first_quorum(certificate: Certificate, quorum: int) -> Certificate:
    """`certificate` with the signatures that `Verifier.check_quorum` checks, and none of those behind them."""
    if len(certificate.signers) <= quorum:
        return certificate
    return replace(certificate, signers=certificate.signers[:quorum], signatures=certificate.signatures[:quorum])


def verify_certificate(certificate: Certificate, entry: Entry, verifier: Verifier) -> None:
    """Check that `certificate` proves `entry` committed; raises a subclass of `CertificateError` that says why not.

    BFT: a quorum of FINALIZE signatures, or of FAST ones. RAFT and AUTO: the leader's word. The entry is the raw one of
    the log (a witnessed entry of AUTO still wrapped); `verify_committed` unwraps.
    """
    if certificate.index != entry.index or entry_digest(certificate.parent, entry) != certificate.digest:
        raise WrongDigest(f"the certificate of index {certificate.index} is not about this entry {entry.index}")
    if certificate.phase not in DECIDING:
        raise WrongMode(f"entry {entry.index}: a {certificate.phase.name} certificate proves no commit")
    if certificate.mode is Mode.BFT:
        if certificate.term != entry.term:
            raise WrongDigest(f"entry {entry.index}: certificate of view {certificate.term}, entry of {entry.term}")
        verifier.check_quorum(certificate)
    else:
        verifier.check_word(certificate)


def verify_committed(committed: Committed, verifier: Verifier) -> None:
    """Check the certificate of a decided entry and, where it has one, its Byzantine witness (AUTO).

    Raises a subclass of `CertificateError`. Whether a *critical* entry has a witness at all is for the caller to ask
    (`committed.witness is None`), since only the layer above knows what is critical.
    """
    certificate = committed.certificate
    if committed.epoch != certificate.epoch:
        raise WrongMode(
            f"entry {committed.entry.index}: certificate of epoch {certificate.epoch}, not {committed.epoch}"
        )
    verify_certificate(certificate, wrapped(committed.entry, committed.witness), verifier)
    if committed.witness is not None:
        if committed.witness.epoch != committed.epoch:
            raise WrongMode(f"entry {committed.entry.index}: a witness of epoch {committed.witness.epoch}")
        verify_witness(committed.witness, committed.entry, verifier)


def verify_witness(witness: Certificate, entry: Entry, verifier: Verifier) -> None:
    """Check that a Byzantine quorum finalized the payload of a critical `entry`, in the same epoch's witness log."""
    if witness.mode is not Mode.BFT or witness.phase not in DECIDING:
        raise WrongMode(f"entry {entry.index}: the witness is a {witness.mode.name} {witness.phase.name} certificate")
    block = Entry(witness.index, witness.term, entry.kind, entry.payload)
    if entry_digest(witness.parent, block) != witness.digest:
        raise WrongDigest(f"entry {entry.index}: the witness is about another payload")
    verifier.check_quorum(witness)


def wrapped(entry: Entry, witness: Certificate | None) -> Entry:
    """The raw entry of the log of a (critical) entry and its witness."""
    if witness is None:
        return entry
    return Entry(entry.index, entry.term, EntryKind.WITNESSED, encode_witness(witness, entry.kind, entry.payload))


def unwrapped(entry: Entry) -> tuple[Entry, Certificate | None]:
    """The entry as the layer above wants it, and its witness; raises `ValueError` when the wrapping is malformed."""
    if entry.kind is not EntryKind.WITNESSED:
        return entry, None
    witness, kind, payload = decode_witness(entry.payload)
    return Entry(entry.index, entry.term, kind, payload), witness
