"""Evidence against other nodes: kept on disk, counted by culprit, a proof above a suspicion."""

from __future__ import annotations

import json
from pathlib import Path

from core.accusations import KEPT_PER_CULPRIT, Accusations
from core.records import Accusation

PROOF = "signed two NOTARIZE votes in view 4 at height 12"


def test_a_proof_takes_the_place_of_a_suspicion_and_is_news(tmp_path: Path) -> None:
    held = Accusations(tmp_path / "evidence.jsonl")
    assert held.all() == ()
    assert held.add(2, "vote with a wrong signature", b"")
    assert not held.add(2, "another suspicion", b"")
    assert held.all() == (Accusation(2, "vote with a wrong signature", False, 2),)
    assert held.add(2, PROOF, b"both votes")
    assert not held.add(2, "signed two NULLIFY votes in view 5", b"both")
    assert held.add(1, PROOF, b"") is True
    assert held.all() == (Accusation(1, PROOF, False, 1), Accusation(2, PROOF, True, 4))


def test_what_was_held_is_held_after_a_restart_and_a_torn_line_is_left_out(tmp_path: Path) -> None:
    file = tmp_path / "evidence.jsonl"
    before = Accusations(file)
    before.add(2, PROOF, b"\x00\xff")
    before.add(0, "suspicion", b"")
    with file.open("a") as torn:
        torn.write('{"time_ns": 1, "culprit": 3, "rea')
    after = Accusations(file)
    assert after.all() == before.all()
    assert not after.add(2, PROOF, b"\x00\xff")
    assert json.loads(file.read_text().splitlines()[0])["proof"] == "00ff"


def test_a_flood_is_counted_but_not_written(tmp_path: Path) -> None:
    file = tmp_path / "evidence.jsonl"
    held = Accusations(file)
    for number in range(500):
        held.add(3, f"suspicion {number}", b"")
    assert held.all() == (Accusation(3, "suspicion 0", False, 500),)
    assert len(file.read_text().splitlines()) == KEPT_PER_CULPRIT
    assert held.add(3, PROOF, b"proof"), "a proof is written whatever came before"
    assert Accusations(file).all()[0].proven
