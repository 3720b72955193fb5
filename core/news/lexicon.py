"""The tone of a finance headline, by a small lexicon of our own with rules of direction.

General word lists misread finance: "costs fall" is good, "loss narrows" is good, "cuts forecast" is bad. So the lexicon
keeps apart words that are good or bad by themselves (beats, recalls), words that only say up or down (rises, cuts), and
things that one would rather see shrink (costs, losses, defaults). A word of direction takes its meaning from the thing
nearest to it; a negation turns what follows it.
"""

from __future__ import annotations

import re
from typing import Final

_WORD: Final = re.compile(r"[a-z]+")
_CHARACTERS_MAX: Final = 400
_NEGATION_REACH: Final = 4
_REACH_AFTER: Final = 3
_REACH_BEFORE: Final = 4
_BAD_THING_WEIGHT: Final = 0.4
_SATURATION: Final = 0.8
"""A single clear word scores 0.67, two agreeing ones 0.92."""


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_GOOD: Final = _words(
    """
    beat beats beating top tops topped topping exceed exceeds exceeded outperform outperforms outperformed upgrade
    upgrades upgraded win wins won winning award awarded awards approve approves approved approval clear clears
    cleared success successful succeeds succeeded breakthrough effective rally rallies rallied rebound rebounds
    rebounded recover recovers recovered recovery bullish optimistic upbeat strong stronger strength robust
    resilient record boom booms booming discovery profitable passes passed innovative landmark buyback buybacks
    improve improves improved improving extends survival grants deal agreement boost boosts boosted supports
    helped gain gains gained celebrates relief eases eased soothe cools
    """
)
_BAD: Final = _words(
    """
    miss misses missed missing underperform underperforms downgrade downgrades downgraded lawsuit lawsuits sue
    sues sued probe probes probed investigation fine fined fines penalty recall recalls recalled warn warns warned
    warning weak weaker weakens weakness bankrupt bankruptcy insolvent fraud scandal slump slumps slumped tumble
    tumbles tumbled plunge plunges plunged crash crashes crashed collapse collapses collapsed halt halts halted
    suspend suspends suspended withdraw withdraws withdrew withdrawn abandon abandons abandoned delay delays
    delayed block blocks blocked fail fails failed fire outage outages disrupt disrupts disrupted cyberattack
    breach leak leaks spill injures death impairment write writedown writes layoffs strike strikes shortage
    recession slowdown fears tariffs escalates threat threatens threatened hurt hurts hit hits drag drags lose
    loses lost squeeze squeezes glut default bearish pessimistic sanctions contamination violation violations
    cripples pulls worries fades faded steepest damages dumping surprise trouble troubled war deficit downturn
    """
)
_UP: Final = _words(
    """
    rise rises rose rising climb climbs climbed climbing grow grows grew growing increase increases increased jump
    jumps jumped soar soars soared surge surges surged raise raises raised lift lifts lifted hike hikes hiked
    boost boosts boosted double doubles doubled triple triples tripled expand expands expanded widen widens
    widened accelerate accelerates accelerated gain gains gained mount mounts higher above up more
    """
)
_DOWN: Final = _words(
    """
    fall falls fell falling drop drops dropped decline declines declined declining decrease decreases decreased
    cut cuts cutting slash slashes slashed lower lowers lowered reduce reduces reduced shrink shrinks shrank
    narrow narrows narrowed tumble tumbles tumbled plunge plunges plunged slump slumps slumped ease eases eased
    easing slow slows slowed cool cools cooled slide slides slid sink sinks sank contract contracts contracted
    recede recedes receded below down fewer trim trims trimmed slip slips slipped
    """
)
_BAD_THINGS: Final = _words(
    """
    cost costs loss losses debt debts default defaults inflation unemployment fear fears worry worries
    bankruptcies bankruptcy loans rates rate tariffs tariff claims deficit expenses risk risks bottlenecks layoffs
    delays charges lawsuits provisions penalties complaints shortages vacancies
    """
)
_GOOD_THINGS: Final = _words(
    """
    profit profits sales revenue revenues income earnings forecast forecasts outlook guidance dividend dividends
    payout output demand margins growth shares stocks jobs orders volumes estimates expectations confidence
    economy share market prices price results traffic production deliveries exports
    """
)
_NEGATIONS: Final = _words(
    """
    not no never without avoid avoids avoided fails failed dismisses dismissed denies neither nor
    """
)
_VALUE: Final[dict[str, float]] = dict.fromkeys(_GOOD, 1.0) | dict.fromkeys(_BAD, -1.0)
_DIRECTION: Final[dict[str, int]] = dict.fromkeys(_UP, 1) | dict.fromkeys(_DOWN, -1)
_THING: Final[dict[str, int]] = dict.fromkeys(_GOOD_THINGS, 1) | dict.fromkeys(_BAD_THINGS, -1)


def score(text: str) -> float:
    """Tone of one headline in [-1, 1]: above 0 good for the price, below 0 bad, 0.0 when nothing is known.

    Reads the first 400 characters, English only.
    """
    words = _WORD.findall(text[:_CHARACTERS_MAX].lower())
    spoken_for: set[int] = set()
    values = [_value(words, at, spoken_for) for at in range(len(words))]
    for at, word in enumerate(words):
        if word in _BAD_THINGS and at not in spoken_for and values[at] == 0.0:
            values[at] = -_BAD_THING_WEIGHT
    for at, word in enumerate(words):
        if word in _NEGATIONS:
            reach = range(at + 1, min(at + 1 + _NEGATION_REACH, len(words)))
            if any(values[near] for near in reach):
                values[at] = 0.0
                for near in reach:
                    values[near] = -values[near]
    return _saturate(sum(values))


def _value(words: list[str], at: int, spoken_for: set[int]) -> float:
    """What the word at `at` says, before negation. Marks the thing it speaks of in `spoken_for`."""
    word = words[at]
    direction = _DIRECTION.get(word)
    comparison = word == "more" and at + 1 < len(words) and words[at + 1] == "than"
    if direction is not None and not comparison:
        for near in (*range(at + 1, at + 1 + _REACH_AFTER), *range(at - 1, at - 1 - _REACH_BEFORE, -1)):
            if 0 <= near < len(words) and (thing := _THING.get(words[near])) is not None:
                spoken_for.add(near)
                return float(direction * thing)
    return _VALUE.get(word, 0.0)


def _saturate(total: float) -> float:
    scaled = _SATURATION * total
    # Monotone, 0 at 0, no transcendental function: the same on every machine.
    return max(-1.0, min(1.0, 1.5 * scaled / (1.0 + abs(scaled))))
