"""What a report says, section by section."""

from __future__ import annotations

from core.report.blocks import Document, Figure, Items, Paragraph, Section, Table
from core.report.optimisations import Optimisation
from core.report.report import Report, under_what
from core.spans import ROOT

NOT_MEASURED = "not measured"


def document_of(report: Report) -> Document:
    """The whole document."""
    return Document(
        title="Where the cycle's time goes",
        subtitle=f"session {report.evidence.session}, report made {report.made}",
        sections=(
            _summary(report),
            _ranking(report),
            _trace(report),
            _quic(report),
            _dtw(report),
            _projections(report),
            _return_on_work(report),
            _recommended(report),
            _reference(report),
        ),
    )


def _footing(report: Report) -> str:
    evidence = report.evidence
    captions = f"; {', '.join(evidence.captions)}" if evidence.captions else ""
    return f"{len(evidence.cycles):,} cycles under {evidence.toggles.label()}{captions}"


def _summary(report: Report) -> Section:
    s = report.profile.summary
    top = [row for row in report.profile.ranking if row.name not in (ROOT, "untimed")][:3]
    named = ", ".join(f"{row.name} ({row.exclusive_share:.1%})" for row in top)
    text = (
        f"A cycle takes {s.cycle_ms_p50:.2f} ms ({s.cycle_ms_p50_low:.2f}–{s.cycle_ms_p50_high:.2f}) in the median,"
        f" {s.cycle_ms_mean:.2f} ms on average, {s.cycle_ms_p95:.2f} ms at p95 and {s.cycle_ms_p99:.2f} ms at p99:"
        f" {s.cycles_per_s:.1f} cycles a second. It decided {s.decisions:,} proposals ({s.denied:,} denied);"
        f" {s.orders_sent:,} orders were sent, {s.orders_filled:,} filled, {s.orders_rejected:,} rejected."
        f" The most time of its own is in {named}; {report.profile.table.untimed.exclusive_share:.1%} is in no span."
    )
    under = tuple(under_what(report.evidence).items())
    settings = tuple(
        (each.toggles, f"{each.cycles:,}", f"{each.cycle_ms_p50:.2f}", f"{each.cycle_ms_p99:.2f}")
        for each in report.profile.settings
    )
    blocks: list[Paragraph | Table | Figure | Items] = [
        Paragraph(text),
        Table(("measured under", ""), under, text_columns=2, wrapped=(1,)),
        Figure("cycles", f"Each cycle's wall time, and how it is distributed. {_footing(report)}."),
    ]
    if len(settings) > 1:
        caption = "Every setting that ran, one after another: no comparison. Experiments compare."
        blocks.append(Table(("toggles", "cycles", "p50 ms", "p99 ms"), settings, caption))
    return Section("Summary", tuple(blocks))


def _ranking(report: Report) -> Section:
    rows = tuple(
        (
            str(row.rank),
            row.name,
            f"{row.calls_per_cycle:,.1f}",
            f"{row.exclusive_ms:.3f}",
            f"{row.exclusive_share:.1%}",
            f"{row.low:.1%}–{row.high:.1%}",
            f"{row.inclusive_ms:.3f}",
            f"{row.inclusive_share:.1%}",
            f"{row.flat_share:.1%}",
            f"{row.p99_ms:.2f}",
            f"{row.background_ms:.3f}" if row.background_ms else "",
            str(row.verdict) if row.name != ROOT else "",
        )
        for row in report.profile.ranking
    )
    columns = (
        "#", "operation", "calls", "exclusive ms", "share", "95 %", "inclusive ms", "of wall", "flat sum",
        "p99 ms", "background ms", "verdict",
    )  # fmt: skip
    note = (
        "Exclusive time sums, with untimed, to wall time: decide by it, the verdict does. Inclusive time counts a span"
        " with all that is nested in it or runs beside it. The flat-sum share divides by the sum of all nested timers,"
        " as the reference profile did: for comparison only. Verdicts: CRITICAL from 10 % of wall time on, HIGH from 5,"
        " MEDIUM from 3, ACCEPTABLE from 1, else NEGLIGIBLE. Background time is spent after the cycle ended."
    )
    caption = f"Per cycle; {_footing(report)}."
    return Section(
        "Ranking of all 29 operations",
        (
            Figure("ranking", f"Exclusive share of wall time with its 95 % interval. {_footing(report)}."),
            Table(columns, rows, caption, text_columns=2, wrapped=(11,)),
            Paragraph(note),
        ),
    )


def _trace(report: Report) -> Section:
    rows = []
    at = 0.0
    for number, step in enumerate(report.profile.steps, 1):
        name = step.name if step.name == "untimed" else f"{number} {step.name}"
        rows.append((name, f"{at:.2f}", f"{step.ms:.3f}", f"{step.low_ms:.3f}–{step.high_ms:.3f}", f"{step.share:.1%}"))
        at += step.ms
    rows.append(("the mean cycle", "", f"{at:.3f}", "", "100.0%"))
    return Section(
        "The cycle in eight steps",
        (
            Figure("trace", f"The mean cycle from left to right. {_footing(report)}."),
            Table(("step", "from ms", "ms", "95 %", "share"), tuple(rows), f"Mean; {_footing(report)}."),
        ),
    )


def _quic(report: Report) -> Section:
    q = report.profile.quic
    links = ", ".join(f"to node {peer} {ms:.2f} ms" for peer, ms in sorted(q.link_round_trip_ms.items()))
    rows = (
        ("share of wall time, coordination with all in it", f"{q.share:.1%}"),
        ("rounds a cycle", f"{q.rounds:.2f}"),
        ("decisions a round", f"{q.decisions_per_round:.2f}"),
        ("rounds a decision", f"{1 / q.decisions_per_round:.3f}" if q.decisions_per_round else "-"),
        ("a round, p50 / p99", f"{q.round_ms_p50:.2f} / {q.round_ms_p99:.2f} ms"),
        ("link round trips, last seen by the leader", links or "not known"),
        ("messages / datagrams a cycle, leader", f"{q.messages:.1f} / {q.datagrams:.1f}"),
        ("bytes a cycle / a decision", f"{q.bytes_on_wire:,.0f} / {q.bytes_per_decision:,.0f}"),
        ("serialization a cycle", f"{q.serialization_ms:.3f} ms in {q.serializations:.1f} calls"),
        ("send a cycle", f"{q.send_ms:.3f} ms"),
        ("waiting for votes", f"{q.consensus_ms:.3f} ms"),
        ("waiting for opinions", f"{q.opinions_ms:.3f} ms"),
    )
    return Section(
        "QUIC",
        (Table(("per cycle", ""), rows, f"Own time where not said otherwise; {_footing(report)}.", wrapped=(1,)),),
    )


def _dtw(report: Report) -> Section:
    kernels = report.profile.kernels
    rows = tuple(
        (k.kernel, f"{k.cycles:,}", f"{k.pairs_per_cycle:,.0f}", f"{k.ns_per_pair:,.0f}", f"{k.ms_per_cycle:.3f}")
        for k in kernels
    )
    blocks: list[Paragraph | Table] = [
        Table(
            ("kernel", "cycles", "pairs a cycle", "ns a pair", "ms a cycle"),
            rows,
            "Medians over the cycles that ran each kernel, whatever the other toggles were.",
        )
    ]
    if len(kernels) == 1:
        blocks.append(
            Paragraph(
                f"Only {kernels[0].kernel} ran here, so there is no before and after: `tradetui experiment d --attach`"
                " measures the kernels in turn, `tradetui bench kernels` beside other libraries."
            )
        )
    else:
        slow, fast = max(kernels, key=lambda k: k.ns_per_pair), min(kernels, key=lambda k: k.ns_per_pair)
        blocks.append(
            Paragraph(
                f"From {slow.kernel} to {fast.kernel} a pair takes {slow.ns_per_pair / fast.ns_per_pair:.1f} times less"
                " (not interleaved unless an experiment switched them)."
            )
        )
    return Section("DTW before and after", tuple(blocks))


def _ratio(value: float | None) -> str:
    return "no limit" if value is None else f"{value:.2f} ×"


def _projections(report: Report) -> Section:
    rows = tuple(_projection_row(each) for each in report.optimisations)
    reasons = tuple(f"{each.key}: {each.why_different}." for each in report.optimisations if each.why_different)
    missing = [each.key for each in report.optimisations if each.measured is None]
    columns = (
        "toggles", "change", "acts on", "at most", "measured", "95 %", "ms before → after", "cycles", "differ",
        "captions",
    )  # fmt: skip
    blocks: list[Paragraph | Items | Table | Figure] = [
        Figure("projections", f"Amdahl's limit and the measured ratio with its 95 % interval. {_footing(report)}."),
        Table(
            columns,
            rows,
            "Ratio of cycle times, above 1: faster. At most: Amdahl's law on exclusive time. Measured: interleaved,"
            " from the settings of this profile, under the captions beside it.",
            text_columns=2,
            wrapped=(9,),
        ),
    ]
    if reasons:
        blocks.append(Paragraph("Where they differ by over 20 %, the time is here (own time, medians):"))
        blocks.append(Items(reasons))
    if missing:
        keys = " ".join(key if len(key) == 1 else "9" for key in missing)
        blocks.append(Paragraph(f"Not measured in this session: `tradetui experiment {keys} --attach` while it runs."))
    if not rows:
        blocks = [Paragraph("Every toggle is on in this profile: profile the baseline to see what each could do.")]
    return Section("Projected and measured", tuple(blocks))


def _projection_row(each: Optimisation) -> tuple[str, ...]:
    m = each.measured
    differ = f"{(each.projected / m.ratio - 1):+.0%}" if m is not None and each.projected is not None else ""
    return (
        each.key if len(each.key) == 1 else "all",
        f"{each.name} {each.change}" if len(each.key) == 1 else each.name,
        f"{each.share:.1%}",
        _ratio(each.projected),
        _ratio(m.ratio) if m else NOT_MEASURED,
        f"{m.low:.2f}–{m.high:.2f}" if m else "",
        f"{m.first_ms:.2f} → {m.second_ms:.2f}" if m else "",
        f"{m.cycles:,}" if m else "",
        differ,
        (", ".join(m.captions) or "none") if m else "",
    )


def _return_on_work(report: Report) -> Section:
    ranked = sorted(report.optimisations, key=_by_saved_a_day)
    mean = report.profile.summary.cycle_ms_mean
    rows = tuple(
        (
            each.name,
            f"{each.days:g}" if each.days else "no estimate",
            each.risk or "-",
            f"{each.saved_ms:.2f}",
            f"{1e3 / mean:.1f} → {1e3 / (mean - each.saved_ms):.1f}"
            if each.saved_ms < mean
            else f"{1e3 / mean:.1f} → ?",
            each.saved_from,
            f"{each.saved_ms_per_day:.2f}" if each.saved_ms_per_day is not None else "",
            _roi(each),
        )
        for each in ranked
    )
    if not rows:
        return Section("Return on work", (Paragraph("Nothing is left to switch on."),))
    caption = (
        "Cost: working days and risk, the middle of the reference profile's estimates, or --days; benefit: time off a"
        " mean cycle. Ranked by wall time saved a day. ROI is share in % × speed-up of that share ÷ days, which knows"
        " nothing of Amdahl's law: a small part made much faster ranks high and saves nothing."
    )
    columns = ("optimisation", "days", "risk", "ms saved", "cycles/s", "from", "ms saved a day", "ROI")
    return Section("Return on work: cost and benefit", (Table(columns, rows, caption, wrapped=(5,)),))


def _by_saved_a_day(each: Optimisation) -> tuple[bool, float]:
    """Most first; those without an estimate of work last."""
    return each.saved_ms_per_day is None, -(each.saved_ms_per_day or 0.0)


def _roi(each: Optimisation) -> str:
    if each.roi is not None:
        return f"{each.roi:,.1f}"
    if not each.days or not each.share:
        return ""
    return "no limit" if each.measured is None else "gains more than its share"


def _recommended(report: Report) -> Section:
    rows = tuple((each.text, each.rule, each.evidence) for each in report.recommendations)
    columns = ("do", "because of the rule", "figures")
    return Section(
        "Recommendations",
        (Table(columns, rows, text_columns=3, wrapped=(0, 1, 2)), Paragraph(f"GPU. {report.gpu.text}")),
    )


def _reference(report: Report) -> Section:
    rows = tuple(
        (
            row.name,
            f"{row.reference_ms:.3f}",
            f"{row.ms:.3f}",
            f"{row.reference_inclusive_share:.1%}",
            f"{row.inclusive_share:.1%}",
            f"{row.reference_exclusive_share:.1%}",
            f"{row.exclusive_share:.1%}",
            str(row.reference_verdict) if row.name != ROOT else "",
            str(row.verdict) if row.name != ROOT else "",
        )
        for row in report.compared
    )
    columns = (
        "operation", "its ms a cycle", "ms a cycle", "its incl. share", "incl. share", "its excl. share", "excl. share",
        "its verdict", "verdict",
    )  # fmt: skip
    return Section(
        "Beside the reference profile",
        (
            Table(columns, rows, "Its: the reference profile, by the same accounting.", wrapped=(7, 8)),
            Paragraph("What in the reference profile does not add up:"),
            Items(report.flaws),
        ),
    )
