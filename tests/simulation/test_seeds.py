"""Random clusters, each from one seed: safety after every event, progress after the faults stop.

A failing seed prints the end of its trace; `run_scenario(seed, ...)` replays it exactly.
"""

from __future__ import annotations

import pytest

from net.messages import Mode
from net.simulation.cluster import Cluster
from net.simulation.invariants import InvariantBroken
from net.simulation.scenario import Kind, run_scenario
from tests.simulation.mutations import PLANTED

KINDS: dict[str, tuple[Kind, int, int]] = {
    # kind, seeds in CI, seeds in `make prove`
    "raft-3": (Kind(3, Mode.RAFT), 20, 300),
    "raft-4": (Kind(4, Mode.RAFT), 20, 300),
    "raft-5": (Kind(5, Mode.RAFT), 20, 300),
    "raft-7": (Kind(7, Mode.RAFT), 15, 200),
    "reads-3": (Kind(3, Mode.RAFT, reads=True), 25, 400),
    "reads-5": (Kind(5, Mode.RAFT, reads=True), 10, 200),
    "bft-4": (Kind(4, Mode.BFT), 15, 200),
    "bft-7": (Kind(7, Mode.BFT), 2, 50),
    "bft-4-liar": (Kind(4, Mode.BFT, liars=1), 22, 400),
    "bft-5-liar": (Kind(5, Mode.BFT, liars=1), 6, 100),
    "bft-7-two-liars": (Kind(7, Mode.BFT, liars=2), 2, 50),
    "bft-4-twins": (Kind(4, Mode.BFT, twins=1), 15, 300),
    "bft-7-twins": (Kind(7, Mode.BFT, twins=2), 2, 50),
    "fast-4": (Kind(4, Mode.BFT, fast=True), 6, 200),
    "fast-4-liar": (Kind(4, Mode.BFT, fast=True, liars=1), 15, 400),
    "fast-4-twins": (Kind(4, Mode.BFT, fast=True, twins=1), 8, 300),
    "fast-5-liar": (Kind(5, Mode.BFT, fast=True, liars=1), 3, 100),
    "fast-4-switch": (Kind(4, Mode.BFT, fast=True, switching=True), 6, 200),
    "auto-4": (Kind(4, Mode.AUTO), 25, 200),
    "auto-4-liar": (Kind(4, Mode.AUTO, liars=1), 25, 200),
    "switch-4": (Kind(4, Mode.RAFT, switching=True), 30, 300),
    "switch-5": (Kind(5, Mode.BFT, switching=True), 15, 200),
    "switch-4-forger": (Kind(4, Mode.BFT, switching=True, liars=1), 15, 200),
    "members-4": (Kind(4, Mode.RAFT, switching=True, members=True), 25, 300),
    "members-5": (Kind(5, Mode.BFT, switching=True, members=True), 10, 200),
}
QUICK_BUGS = (
    "Raft quorum minus one",
    "forget votes on restart",
    "trust any certificate",
    "let critical entries pass",
    "order behind a switch",
    "keep the lease in a transfer",
    "fast: ignore reports",
    "believe the epoch of a certificate",
    "take a change of any type",
    "switch without looking at the signature",
    "switch whenever it was signed",
)


def run_seeds(kind: Kind, first: int, count: int) -> None:
    for seed in range(first, first + count):
        try:
            run_scenario(seed, kind)
        except Exception as error:
            error.add_note(f"replay with run_scenario({seed}, {kind})")
            raise


@pytest.mark.parametrize("name", KINDS)
def test_random_clusters_are_safe_and_recover(name: str) -> None:
    kind, count, _ = KINDS[name]
    run_seeds(kind, 0, count)


@pytest.mark.prove
@pytest.mark.parametrize("name", KINDS)
def test_many_random_clusters(name: str) -> None:
    kind, _, count = KINDS[name]
    run_seeds(kind, 1000, count)


def first_seed_that_finds(bug: str, limit: int, patch: pytest.MonkeyPatch) -> int | None:
    plant, kind = PLANTED[bug]
    plant(patch)
    for seed in range(limit):
        try:
            run_scenario(seed, kind)
        except Exception as error:
            # Being slow is not what these bugs are guilty of.
            if not (isinstance(error, InvariantBroken) and "no progress" in str(error)):
                return seed
    return None


@pytest.mark.parametrize("bug", QUICK_BUGS)
def test_a_planted_bug_is_found(bug: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert first_seed_that_finds(bug, 40, monkeypatch) is not None


@pytest.mark.prove
@pytest.mark.parametrize("bug", [bug for bug in PLANTED if bug not in QUICK_BUGS])
def test_every_planted_bug_is_found(bug: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert first_seed_that_finds(bug, 10_000, monkeypatch) is not None


def test_one_seed_is_one_history() -> None:
    def history() -> tuple[int, int, list[str]]:
        cluster: Cluster = run_scenario(7, Kind(4, Mode.BFT, switching=True))
        return cluster.events, cluster.messages, cluster.trace

    assert history() == history()
