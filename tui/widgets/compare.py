"""The experiment: how far it is, what it found over all and per span, and what was found before."""

from __future__ import annotations

from math import isfinite, log

from core.experiment_log import ExperimentState
from core.interleaved import ContrastResult, Result, SpanResult, Verdict
from core.paired_ratio import PairedRatio
from core.spans import DEPTH
from core.what_if import Projection, amdahl
from tui.figures import age, clock, milliseconds, plain, shortened
from tui.view import View
from tui.widgets.panel import Panel, Part, Row, fold, row_of

_STYLE = {
    Verdict.FASTER: "good",
    Verdict.SLOWER: "error",
    Verdict.NO_DIFFERENCE: "strong",
    Verdict.CANNOT_TELL: "warning",
}
_WORD = {
    Verdict.FASTER: "faster",
    Verdict.SLOWER: "slower",
    Verdict.NO_DIFFERENCE: "no difference",
    Verdict.CANNOT_TELL: "cannot tell",
}
SEPARATED = 1.5
"""The axis of intervals reaches at least from 1/1.5 to 1.5, so that a tight interval around 1 looks tight."""


def verdict_parts(each: ContrastResult) -> list[Part]:
    """`2.31× faster (2.25–2.38)`; slower is turned round, so that the figure is always how many times."""
    ratio = each.ratio
    if each.verdict is Verdict.SLOWER:
        ratio = PairedRatio(1.0 / ratio.ratio, 1.0 / ratio.high, 1.0 / ratio.low)
    figure = f"{ratio.ratio:.3f}× " if ratio.ratio < 1.995 else f"{ratio.ratio:.2f}× "
    digits = 3 if ratio.ratio < 1.995 else 2
    return [
        Part(figure, "strong"),
        Part(_WORD[each.verdict], _STYLE[each.verdict]),
        Part(f" ({ratio.low:.{digits}f}–{ratio.high:.{digits}f})"),
    ]


def interval_line(ratio: PairedRatio, width: int, reach: float) -> str:
    """`ratio` with its interval on a log axis from 1/reach to reach; `┊` is 1. Exactly `width` characters."""

    def cell(value: float) -> int:
        return min(width - 1, max(0, round((log(value) / log(reach) + 1.0) / 2.0 * (width - 1))))

    cells = [" "] * width
    cells[cell(1.0)] = "┊"
    low, high = cell(ratio.low), cell(ratio.high)
    for x in range(low, high + 1):
        cells[x] = "─"
    cells[low], cells[high] = "├", "┤"
    cells[cell(ratio.ratio)] = "●"
    return "".join(cells)


def _reach(ratios: list[PairedRatio]) -> float:
    return max([SEPARATED, *(max(each.high, 1.0 / each.low) * 1.1 for each in ratios)])


class ExperimentPanel(Panel):
    """The running experiment, or the last one."""

    def heading(self, view: View) -> str:
        state = view.experiment
        return "Experiment" if state is None or state.running else "Last experiment"

    def rows(self, view: View, width: int, height: int) -> list[Row]:
        state = view.experiment
        if state is None:
            return [line for row in _NOTHING_YET for line in fold(row, width)]
        out = [*fold((Part(state.label, "strong"),), width), *fold(_progress(state, view, width), width)]
        found: list[list[Row]] = [[]]
        if state.result is not None:
            found = _found(state.result, width)
        elif state.running:
            found = [fold((Part("no interval before the sixth replicate", "muted"),), width)]
        foot = _under(state, view, width)
        if state.failure:
            foot += fold((Part(f"ended early: {state.failure}", "warning"),), width)
        elif state.running:
            foot.append((Part(" a ", "key", "app.experiment"), Part(" stop it", "muted", "app.experiment")))
        out += found[0]
        for rows in found[1:]:
            # with a line for the what-if
            if len(out) + len(rows) + 1 + len(foot) > height:
                break
            out += rows
        return out + _what_if(state.projection, width, height - len(out) - len(foot)) + foot


_NOTHING_YET: tuple[Row, ...] = (
    (Part(" a ", "key", "app.experiment"), Part(" compare a toggle, on and off in turn", "plain", "app.experiment")),
    (Part("blocks of cycles A B B A, until the 95 % interval is tight", "muted"),),
    (Part("or it says that it cannot tell", "muted"),),
)


def _under(state: ExperimentState, view: View, width: int) -> list[Row]:
    """What it ran under and is not at the foot of the screen any more, or not all the time: a fault, say."""
    gone = [each for each in state.captions if each not in view.snapshot.captions]
    return [line for each in gone for line in fold((Part(plain(each), "warning"),), width)]


def _what_if(projection: Projection, width: int, room: int) -> list[Row]:
    """The limit with what it takes for granted; where those are more than `room` lines, how many they are."""
    limit = f"at most {projection.ratio:.2f}×" if isfinite(projection.ratio) else "no limit"
    head = (Part("what-if ", "muted"), Part(limit))
    lines = fold((*head, Part(f"  {projection.assumption}", "muted")), width)
    if len(lines) <= max(1, room):
        return lines
    return [(*head, Part(f"  under {projection.assumption.count(',') + 1} assumptions", "muted"))]


def _progress(state: ExperimentState, view: View, width: int) -> Row:
    took_s = ((state.ended_ns or view.now_ns) - state.started_ns) / 1e9
    cycles = state.result.cycles if state.result is not None else 0
    text = f"{state.replicates} of at most {state.replicates_max} replicates"
    if not state.running:
        text = f"{state.replicates} replicates, {cycles:,} cycles, {age(took_s)}"
        return (Part(text), Part(f"  {state.discarded:,} discarded", "muted"))
    room = max(0, min(20, width - len(text) - 12))
    done = round(state.progress * room)
    return (Part("━" * done, "accent"), Part("─" * (room - done), "muted"), Part(f" {text}  {age(took_s)}"))


def _found(result: Result, width: int) -> list[list[Row]]:
    """The lines of each contrast, the main effects first."""
    reach = _reach([each.ratio for each in result.contrasts])
    if len(result.design.cells) == 2:
        main = result.main
        first, second = result.cell_ms
        times = Part(f"  {milliseconds(first)} → {milliseconds(second)} ms", "muted")
        line = interval_line(main.ratio, max(9, min(60, width)), reach)
        return [[*fold((*verdict_parts(main), times), width), (Part(line, "accent"),)]]
    name = min(24, max(len(each.contrast.name) for each in result.contrasts) + 1)
    bar = width - name - 34
    out: list[list[Row]] = []
    for each in result.contrasts:
        said = (Part(f"{shortened(each.contrast.name, name - 1)} ", "strong"), *verdict_parts(each))
        if bar < 9:
            out.append(fold(said, width))
        else:
            out.append([row_of(said, (Part(interval_line(each.ratio, bar, reach), "accent"),), width)])
    return out


class SpanRatiosPanel(Panel):
    """Per span: median time under the first and the second setting, their ratio, and what that span alone gave."""

    def heading(self, view: View) -> str:
        state = view.experiment
        if state is None or state.result is None or not state.result.spans:
            return "Per span"
        return f"Per span, {state.result.replicates} replicates: {state.label}"

    def rows(self, view: View, width: int, height: int) -> list[Row]:
        state = view.experiment
        if state is None or state.result is None:
            return [(Part("each span's time under both settings appears here", "muted"),)]
        if not state.result.spans:
            return _cells(state.result, height)
        return _span_rows(state.result, width, height)


def _cells(result: Result, height: int) -> list[Row]:
    rows = [(Part("median cycle ms  setting", "muted"),)]
    return rows + [
        (Part(f"{milliseconds(ms):>15}  "), Part(toggles.label(), "muted"))
        for toggles, ms in list(zip(result.design.cells, result.cell_ms, strict=True))[: height - 1]
    ]


def _span_rows(result: Result, width: int, height: int) -> list[Row]:
    whole_ms = result.spans[0].first_ms
    depths = (*DEPTH, 1)
    order = range(len(result.spans))
    if len(result.spans) > height - 1:  # those that moved the cycle most
        moved = sorted(order[1:], key=lambda k: -abs(result.spans[k].first_own_ms - result.spans[k].second_own_ms))
        order = [0, *sorted(moved[: max(0, height - 2)])]
    name = 36 if width >= 96 else 28
    bar = width - name - 47
    reach = _reach([span.ratio for span in (result.spans[k] for k in order) if span.ratio is not None])
    header = f"{'span':<{name}}{'first':>8}{'second':>8}{'ratio':>8}  {'95 % interval':<15}{'alone':>6}"
    rows: list[Row] = [(Part(header, "muted"),)]
    rows += [_span_row(result.spans[k], depths[k], whole_ms, name, bar, reach) for k in order]
    return rows


def _span_row(span: SpanResult, depth: int, whole_ms: float, name: int, bar: int, reach: float) -> Row:
    label = "  " * depth + span.name if name > 28 else span.name
    parts = [
        Part(f"{shortened(label, name - 1)} ", "strong" if depth == 0 else "plain" if depth == 1 else "muted"),
        Part(f"{milliseconds(span.first_ms) if span.first_ms else '–':>8}"),
        Part(f"{milliseconds(span.second_ms) if span.second_ms else '–':>8}"),
    ]
    ratio = span.ratio
    if ratio is None:
        return (*parts, Part(f"{'–':>8}  {'':<15}", "muted"), _alone(span, depth, whole_ms))
    style = "good" if ratio.low > 1.0 else "error" if ratio.high < 1.0 else "muted"
    mark = "faster" if ratio.low > 1.0 else "slower" if ratio.high < 1.0 else ""
    parts += [
        Part(f"{ratio.ratio:>8.2f}", style),
        Part(f"  {f'{ratio.low:.2f}–{ratio.high:.2f}':<15}", style),
        _alone(span, depth, whole_ms),
    ]
    if bar >= 18:
        parts += [Part(f" {mark:<7}", style), Part(interval_line(ratio, bar - 8, reach), style)]
    return tuple(parts)


def _alone(span: SpanResult, depth: int, whole_ms: float) -> Part:
    """By Amdahl: how many times as fast the cycle would be, had only this span's own time changed."""
    if depth == 0 or whole_ms <= 0.0 or not span.second_own_ms or not span.first_own_ms:
        return Part(f"{'':>6}")
    gain = amdahl(min(1.0, span.first_own_ms / whole_ms), span.first_own_ms / span.second_own_ms)
    return Part(f"{gain:>5.2f}×", "muted" if abs(gain - 1.0) < 0.01 else "plain")


class ResultsPanel(Panel):
    """Finished experiments of this sitting, the latest first."""

    def heading(self, view: View) -> str:
        return "Results kept in the session"

    def rows(self, view: View, width: int, height: int) -> list[Row]:
        if not view.results:
            return [(Part("none yet", "muted"),)]
        return [_result_row(state, width) for state in reversed(view.results[-height:])]


def _result_row(state: ExperimentState, width: int) -> Row:
    wide = width >= 60
    head = [Part(f"{clock(state.ended_ns)} ", "muted")] if wide else []
    room = max(8, width - 44 - (9 if head else 0))
    label = state.label if len(state.label) <= room else " ".join(state.keys)[:room]
    faults = _faults(state)
    head.append(Part(f"{label:<{room}}", "strong"))
    head.append(Part("!" if faults else " ", "warning"))
    if state.result is None:
        return (*head, Part(state.failure or "no result", "warning"))
    if len(state.result.design.cells) == 2:
        head += verdict_parts(state.result.main)
    else:
        # One line: the main effects alone; the interactions are in the panel above while it is the last one.
        head += [part for each in state.result.main_effects for part in _brief(each, wide)]
        head[-1] = head[-1]._replace(text=head[-1].text.rstrip())
    return (*head, Part(f"  {plain(', '.join(faults))}", "warning")) if wide and faults else tuple(head)


def _brief(each: ContrastResult, wide: bool) -> list[Part]:
    parts = [Part(f"{each.contrast.name} ", "strong"), Part(f"{each.ratio.ratio:.2f}×  ")]
    return [*parts, Part(f"({each.ratio.low:.2f}–{each.ratio.high:.2f})  ", "muted")] if wide else parts


def _faults(state: ExperimentState) -> list[str]:
    return [each for each in state.captions if each.startswith("fault")]
