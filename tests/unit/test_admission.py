"""Members go ahead, strangers get a Retry first and then only so many handshakes."""

from __future__ import annotations

from aioquic.buffer import Buffer
from aioquic.quic.packet import QuicHeader, QuicPacketType, QuicProtocolVersion, pull_quic_header

from net.admission import NETWORKS_MAX, RETRY_ABOVE_UNPROVEN, STRANGERS_BURST, STRANGERS_PER_S, Admission, Admitted

ADDRESS = ("192.0.2.7", 4_433)


def initial(destination: bytes = b"12345678", token: bytes = b"") -> QuicHeader:
    return QuicHeader(
        version=QuicProtocolVersion.VERSION_1,
        packet_type=QuicPacketType.INITIAL,
        packet_length=1_200,
        destination_cid=destination,
        source_cid=b"abcdefgh",
        token=token,
        integrity_tag=b"",
        supported_versions=[],
    )


def answered(admission: Admission, address: tuple[str, int], now: float, unproven: int = 0) -> Admitted | bytes | None:
    """What a stranger gets that answers its Retry."""
    retry = admission.decide(initial(), address, is_member=False, unproven=unproven, now=now)
    assert isinstance(retry, bytes)
    header = pull_quic_header(Buffer(data=retry), host_cid_length=8)
    again = initial(header.source_cid, header.token)
    return admission.decide(again, address, is_member=False, unproven=unproven, now=now)


def test_a_member_goes_ahead_until_too_many_are_unproven() -> None:
    admission = Admission(64)
    assert admission.decide(initial(), ADDRESS, is_member=True, unproven=0, now=0.0) == Admitted(b"12345678", None)
    retry = admission.decide(initial(), ADDRESS, is_member=True, unproven=RETRY_ABOVE_UNPROVEN, now=0.0)
    assert isinstance(retry, bytes)
    assert admission.retries_sent == 1


def test_a_stranger_must_answer_a_retry_from_its_own_address() -> None:
    admission = Admission(64)
    admitted = answered(admission, ADDRESS, 0.0)
    assert isinstance(admitted, Admitted)
    assert admitted.original_destination_id == b"12345678"
    assert admitted.retry_source_id is not None
    retry = admission.decide(initial(), ADDRESS, is_member=False, unproven=0, now=0.0)
    assert isinstance(retry, bytes)
    header = pull_quic_header(Buffer(data=retry), host_cid_length=8)
    stolen = initial(header.source_cid, header.token)
    assert admission.decide(stolen, ("192.0.2.8", 4_433), is_member=False, unproven=0, now=0.0) is None
    assert admission.decide(stolen, ADDRESS, is_member=False, unproven=0, now=31.0) is None
    forged = initial(header.source_cid, bytes(len(header.token)))
    assert admission.decide(forged, ADDRESS, is_member=False, unproven=0, now=0.0) is None
    assert admission.strangers_shed == 3


def test_a_network_of_strangers_gets_a_burst_and_then_a_rate() -> None:
    admission = Admission(64)
    burst = [answered(admission, ("192.0.2.7", 1_000 + k), 0.0) for k in range(20)]
    assert sum(isinstance(one, Admitted) for one in burst) == STRANGERS_BURST
    later = [answered(admission, ("192.0.2.7", 2_000 + k), 3.0) for k in range(20)]
    assert sum(isinstance(one, Admitted) for one in later) == 3 * STRANGERS_PER_S
    assert isinstance(answered(admission, ("192.0.2.9", 1), 3.0), Admitted), "another network has its own"
    ipv6 = [answered(admission, (f"2001:db8::{k:x}", 1, 0, 0), 0.0) for k in range(1, 20)]  # type: ignore[arg-type]
    assert sum(isinstance(one, Admitted) for one in ipv6) == STRANGERS_BURST, "a /64 is one network"


def test_strangers_leave_places_for_members_and_the_books_are_bounded() -> None:
    admission = Admission(64)
    assert answered(admission, ADDRESS, 0.0, unproven=32) is None
    for k in range(NETWORKS_MAX + 500):
        answered(admission, (f"198.51.{k // 256}.{k % 256}", 1), 0.0)
    assert len(admission._buckets) == NETWORKS_MAX
