"""Emulated links: what the setting says is what datagrams get."""

from __future__ import annotations

from random import Random

import pytest

from net.link_model import LinkModel, LinkModelError, parse_links


def test_a_description_for_all_and_for_one_pair() -> None:
    links = parse_links("delay=4ms,jitter=1ms,loss=0.5%; 3-1: delay=0.04s")
    assert links.between(0, 1) == links.between(1, 0) == LinkModel(0.004, 0.001, 0.005)
    assert links.between(1, 3) == links.between(3, 1) == LinkModel(0.04)
    assert links
    assert not parse_links("")
    assert not parse_links("delay=0ms")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("delay=4", "must be a time"),
        ("delay=11s", "up to 10 s"),
        ("loss=101%", "percentage"),
        ("loss=0.5", "percentage"),
        ("speed=4ms", "unknown"),
        ("delay=1ms,delay=2ms", "twice"),
        ("delay=1ms;delay=2ms", "two models"),
        ("0-0:delay=1ms", "no pair"),
        ("0-1:delay=1ms;1-0:delay=1ms", "named twice"),
        ("jitter=1ms", "exceed"),
    ],
)
def test_a_bad_description_is_refused_with_the_reason(text: str, problem: str) -> None:
    with pytest.raises(LinkModelError, match=problem):
        parse_links(text)


def test_fates_follow_the_model_and_the_seed() -> None:
    model = LinkModel(0.004, 0.001, 0.1)
    fates = [model.fate(Random(7)) for _ in range(3)]
    assert fates[0] == fates[1] == fates[2]
    random = Random(7)
    many = [model.fate(random) for _ in range(10_000)]
    arrived = [fate for fate in many if fate is not None]
    assert 0.08 < 1 - len(arrived) / len(many) < 0.12
    assert min(arrived) >= 0.003
    assert max(arrived) <= 0.005
    assert LinkModel().fate(random) == 0.0
