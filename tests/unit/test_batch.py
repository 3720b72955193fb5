"""The batcher: order kept, nothing lost or doubled, each policy as it says, statistics exact."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from net.batch import Batch, Batcher, BatchPolicy, Cause


def test_off_sends_each_item_by_itself() -> None:
    batcher: Batcher[str] = Batcher(BatchPolicy.OFF)
    assert batcher.add("a", 0.0) == [Batch(("a",), Cause.SINGLE)]
    assert batcher.next_deadline() is None


def test_a_full_batch_goes_at_once() -> None:
    batcher: Batcher[int] = Batcher(BatchPolicy.TIMER, max_items=3)
    assert batcher.add(1, 0.0) == batcher.add(2, 0.0) == []
    assert batcher.add(3, 0.0) == [Batch((1, 2, 3), Cause.FULL)]


def test_the_timer_counts_from_the_first_item() -> None:
    batcher: Batcher[int] = Batcher(BatchPolicy.TIMER, max_wait_s=0.005)
    batcher.add(1, 10.0)
    batcher.add(2, 10.004)
    assert batcher.next_deadline() == pytest.approx(10.005)
    assert batcher.poll(10.0049) == []
    assert batcher.pipe_idle(10.0049) == []
    assert batcher.poll(10.0051) == [Batch((1, 2), Cause.TIMER)]


def test_adaptive_goes_early_only_when_the_pipe_is_idle() -> None:
    batcher: Batcher[int] = Batcher(BatchPolicy.ADAPTIVE)
    assert batcher.add(1, 0.0) == []
    assert batcher.pipe_idle(0.001) == [Batch((1,), Cause.IDLE)]
    assert batcher.pipe_idle(0.002) == []


@pytest.mark.parametrize("arguments", [{"max_items": 0}, {"max_wait_s": -1.0}])
def test_senseless_bounds_are_refused(arguments: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="batcher"):
        Batcher(BatchPolicy.TIMER, **arguments)  # type: ignore[arg-type]


@given(
    st.sampled_from(list(BatchPolicy)),
    st.integers(1, 6),
    st.lists(st.tuples(st.sampled_from(["add", "poll", "idle"]), st.floats(0, 0.004)), max_size=60),
)
def test_nothing_is_lost_doubled_or_reordered(
    policy: BatchPolicy, max_items: int, steps: list[tuple[str, float]]
) -> None:
    batcher: Batcher[int] = Batcher(policy, max_items=max_items)
    now, sent, added = 0.0, [], 0
    for action, elapsed_s in steps:
        now += elapsed_s
        if action == "add":
            sent += batcher.add(added, now)
            added += 1
        else:
            sent += batcher.poll(now) if action == "poll" else batcher.pipe_idle(now)
        deadline = batcher.next_deadline()
        assert deadline is None or now <= deadline + 1e-9 or action == "add"
    out = [item for batch in sent for item in batch.items]
    assert out == list(range(len(out)))
    assert len(out) + len(batcher) == added
    assert all(1 <= len(batch.items) <= max_items or policy is BatchPolicy.OFF for batch in sent)
    assert (batcher.statistics.items, batcher.statistics.batches) == (len(out), len(sent))
