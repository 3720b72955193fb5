"""A report of a recorded session: its figures add up, its words follow from them, its page asks for nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from xml.etree import ElementTree

import numpy as np
import pytest

from core.block_bootstrap import median_interval, quotient_intervals
from core.commands.report import parse_days
from core.config import ConfigError
from core.profile_series import load_series
from core.recorder import recording_file
from core.recording import Moment, Recording
from core.report.blocks import Table
from core.report.document import document_of
from core.report.evidence import read_evidence, warmed_up
from core.report.html import to_html
from core.report.markdown import to_markdown
from core.report.plots import draw
from core.report.profile import STEPS, Verdict, make_profile, verdict_of
from core.report.recommendations import gpu_verdict
from core.report.reference import known_flaws, reference_profile
from core.report.report import make_report, to_dict, under_what
from core.session import Session, SessionError
from core.spans import NAMES, ROOT
from core.swarm_place import LocalPlace
from core.toggles import BASELINE, OPTIMISED, Consensus, Serialization, Toggles, pressed
from tests.recorded_session import recorded_session
from tests.tui.recorded import load


def experiment(first: Toggles, second: Toggles, ratio: float, own: dict[str, tuple[float, float]]) -> dict:
    """A line of `experiments.jsonl` in which one toggle gave `ratio`, with own times by span."""
    before = sum(each[0] for each in own.values())
    cells = [(first, before), (second, before / ratio)]
    spans = [
        {
            "name": name, "first_ms_p50": 1.0, "second_ms_p50": 1.0, "ratio": None, "ratio_lo": None, "ratio_hi": None,
            "first_own_ms_p50": own.get(name, (0.0, 0.0))[0], "second_own_ms_p50": own.get(name, (0.0, 0.0))[1],
        }
        for name in (*NAMES, "untimed")
    ]  # fmt: skip
    return {
        "label": "x", "keys": ["b"], "captions": ["venue latency 3 ms (injected)"], "failure": "", "replicates": 12,
        "cycles": 384, "spans": spans,
        "contrasts": [
            {"name": "b", "ratio": ratio, "ratio_lo": ratio * 0.9, "ratio_hi": ratio * 1.1, "verdict": "faster"}
        ],
        "cells": [{"toggles": toggles.as_dict(), "cycle_ms_p50": ms} for toggles, ms in cells],
    }  # fmt: skip


@pytest.fixture(scope="module")
def session(tmp_path_factory) -> Session:
    batching = replace(BASELINE, batching=True)
    own = {"quic_consensus": (60.0, 20.0), "quic_coordination": (20.0, 1.0), "order_placement": (20.0, 29.0)}
    experiments = [experiment(BASELINE, batching, 9.0, {}), experiment(BASELINE, batching, 2.0, own)]
    return recorded_session(tmp_path_factory.mktemp("report") / "session", experiments=experiments)


@pytest.fixture(scope="module")
def report(session):
    return make_report(read_evidence(session, BASELINE), {"x": 2.0})


def test_all_three_accountings_add_up(report):
    ranking = report.profile.ranking
    assert {row.name for row in ranking} == {*NAMES, "untimed"}
    assert sum(row.exclusive_share for row in ranking) == pytest.approx(1.0)
    assert sum(row.exclusive_ms for row in ranking) == pytest.approx(report.profile.summary.cycle_ms_mean)
    assert sum(row.flat_share for row in ranking) == pytest.approx(1.0)
    assert [row.rank for row in ranking] == list(range(1, 31))
    ranked = [row.exclusive_share for row in ranking if row.name != ROOT]
    assert ranked == sorted(ranked, reverse=True)
    for row in ranking:
        assert row.low - 1e-9 <= row.exclusive_share <= row.high + 1e-9
        assert row.inclusive_ms >= row.exclusive_ms - 1e-9


def test_the_eight_steps_and_what_is_untimed_sum_to_the_mean_cycle(report):
    steps = report.profile.steps
    assert [step.name for step in steps] == [*STEPS, "untimed"]
    assert len(STEPS) == 8
    assert sum(step.ms for step in steps) == pytest.approx(report.profile.summary.cycle_ms_mean)
    assert sum(step.share for step in steps) == pytest.approx(1.0)


def test_no_figure_mixes_two_settings_and_the_first_cycles_after_a_switch_are_out(session):
    cycles = load()[0].cycles
    for toggles in (BASELINE, OPTIMISED):
        evidence = read_evidence(session, toggles)
        assert {record.toggles for record in evidence.cycles} == {toggles}
        assert list(evidence.cycles)
        assert len(evidence.cycles) == sum(r.toggles == toggles for r in warmed_up(cycles))
    switch = next(k for k, r in enumerate(cycles) if k and r.toggles != cycles[k - 1].toggles)
    kept = {record.cycle for record in warmed_up(cycles)}
    assert not kept & {record.cycle for record in cycles[switch : switch + 3]}
    assert cycles[switch + 3].cycle in kept


def test_cycles_before_the_kernels_were_compiled_are_left_out(tmp_path):
    cycles = load()[0].cycles
    early = tuple(replace(r, numpy_kernels=8, wall_ms=r.wall_ms * 9) for r in cycles[:30])
    evidence = read_evidence(recorded_session(tmp_path / "cold", early + cycles[30:]), BASELINE)
    ran = [record.cycle for record in cycles if record.toggles == BASELINE and record.cycle > cycles[29].cycle]
    assert [record.cycle for record in evidence.cycles] == ran[3:], "and what the first compiled ones pay"
    assert not any(record.numpy_kernels for found in evidence.by_toggles.values() for record in found)


def test_captions_are_of_the_whole_time_of_the_cycles(tmp_path):
    """A fault that was switched off before the end was there all the same; one of another setting's time was not."""
    sitting, _, _ = load()
    session = recorded_session(tmp_path / "fault")
    optimised = [record for record in sitting.cycles if record.toggles == OPTIMISED]
    recording = Recording(recording_file(session))
    for k, faults in ((20, ()), (40, ("fault: node 3 drops",)), (60, ("fault: node 3 drops",)), (80, ())):
        record = optimised[k]
        state = replace(sitting, taken_ns=record.started_ns, captions=("durability strict", *faults))
        recording.append([Moment(state)])
    recording.close()
    assert read_evidence(session, OPTIMISED).captions == ("durability strict", "fault: node 3 drops", *sitting.captions)
    assert "fault: node 3 drops" in to_markdown(document_of(make_report(read_evidence(session, OPTIMISED), {})))
    assert read_evidence(session, BASELINE).captions == ("durability strict",)
    series = load_series(session.directory)
    assert "fault: node 3 drops" in series[OPTIMISED].captions
    assert "fault: node 3 drops" not in series[BASELINE].captions


def test_the_end_is_that_of_the_last_cycle_not_of_the_stop_after_it(tmp_path):
    sitting, _, _ = load()
    session = recorded_session(tmp_path / "stopped")
    recording = Recording(recording_file(session))
    last = sitting.cycles[-1]
    after_ns = last.started_ns + round(last.wall_ms * 1e6) + 2_000_000_000
    gone = tuple(replace(node, reachable=False) for node in sitting.nodes)
    for taken_ns, state in ((last.started_ns, sitting), (after_ns, replace(sitting, nodes=gone, leader=None))):
        recording.append([Moment(replace(state, taken_ns=taken_ns))])
    recording.close()
    evidence = read_evidence(session, OPTIMISED)
    assert evidence.end.leader == sitting.leader
    assert evidence.end.leader is not None
    assert len(evidence.end.cycles) == len(sitting.cycles)


def test_what_an_experiment_was_measured_under_stands_beside_it(report):
    table = next(block for block in _section(report, "Projected and measured") if isinstance(block, Table))
    under = {row[0]: row[table.columns.index("captions")] for row in table.rows}
    assert under["b"] == "venue latency 3 ms (injected)"
    assert under["m"] == "", "not measured"
    for text in (to_markdown(document_of(report)), to_html(document_of(report), {})):
        assert "venue latency 3 ms (injected)" in text


def _section(report, title):
    return next(section.blocks for section in document_of(report).sections if section.title == title)


def test_where_experiments_began_is_profiled_or_else_what_ran_most(session, tmp_path):
    assert read_evidence(session).toggles == BASELINE
    assert read_evidence(session, OPTIMISED).toggles == OPTIMISED
    assert read_evidence(recorded_session(tmp_path / "plain")).toggles == OPTIMISED
    with pytest.raises(SessionError, match=r"0 cycles under b- .* a report wants 20"):
        read_evidence(session, replace(BASELINE, parallel_orders=True))


def test_verdicts_change_at_their_limits():
    limits = ((0.10, Verdict.CRITICAL), (0.05, Verdict.HIGH), (0.03, Verdict.MEDIUM), (0.01, Verdict.ACCEPTABLE))
    for limit, verdict in limits:
        assert verdict_of(limit) is verdict
        assert verdict_of(limit - 1e-9) is not verdict
    assert verdict_of(0.0099) is Verdict.NEGLIGIBLE


def test_a_measurement_stands_beside_the_projection_and_the_gap_is_explained(report):
    found = {each.key: each for each in report.optimisations}
    assert list(found) == ["b", "s", "m", "o", "x", "z", "p", "c", "bsmoxzpc"]
    batching = found["b"]
    assert batching.measured is not None
    assert batching.measured.ratio == 2.0, "the last experiment counts"
    assert batching.saved_from == "measured"
    assert batching.saved_ms == pytest.approx(report.profile.summary.cycle_ms_mean / 2)
    assert batching.saved_ms_per_day == pytest.approx(batching.saved_ms / 2.5)
    # 80 ms of coordination ÷ 20 leaves 4 beside 20 of placement: 4.2 times; measured 2.0
    assert "quic_consensus kept 20.00 of 60.00 ms (3.00 ms expected)" in batching.why_different
    assert "order_placement went to 29.00 of 20.00 ms" in batching.why_different
    assert found["m"].measured is None
    assert not found["m"].why_different
    assert found["x"].days == 2.0
    assert found["z"].days is None
    assert found["z"].saved_ms_per_day is None


def test_an_experiment_from_other_settings_is_not_taken(session):
    evidence = replace(
        read_evidence(session, BASELINE),
        experiments=(experiment(OPTIMISED, replace(OPTIMISED, batching=False), 0.5, {"untimed": (1.0, 2.0)}),),
    )
    assert all(each.measured is None for each in make_report(evidence, {}).optimisations)


def test_a_line_that_was_cut_short_costs_that_experiment_alone(tmp_path):
    batching, multiplexed = replace(BASELINE, batching=True), replace(BASELINE, stream_multiplexing=True)
    session = recorded_session(tmp_path / "cut", experiments=[experiment(BASELINE, batching, 2.0, {})])
    with session.experiments_file.open("a") as file:
        file.write('{"label": "m", "ke')
    place = LocalPlace(session, read_only=True)
    place.keep_experiment(experiment(BASELINE, multiplexed, 1.5, {"untimed": (1.0, 0.5)}))
    evidence = read_evidence(session, BASELINE)
    assert [each["contrasts"][0]["ratio"] for each in evidence.experiments] == [2.0, 1.5]
    assert evidence.experiments_damaged == 1
    assert under_what(evidence)["experiments"] == "1 cut short in experiments.jsonl and left out"
    assert "experiments" not in under_what(replace(evidence, experiments_damaged=0))


def test_an_experiment_that_was_broken_off_is_no_measurement(session):
    batching = replace(BASELINE, batching=True)
    whole = experiment(BASELINE, batching, 2.0, {"untimed": (1.0, 2.0)})
    broken = experiment(BASELINE, batching, 9.0, {"untimed": (1.0, 2.0)}) | {"failure": "stopped by hand"}
    evidence = replace(read_evidence(session, BASELINE), experiments=(whole, broken))
    assert {each.key: each for each in make_report(evidence, {}).optimisations}["b"].measured.ratio == 2.0
    evidence = replace(evidence, experiments=(broken,))
    assert all(each.measured is None for each in make_report(evidence, {}).optimisations)


def test_a_recommendation_names_the_faults_that_it_was_measured_under(session):
    captions = ["durability strict", "fault: node 2 sends 20 ms late"]
    found = experiment(BASELINE, replace(BASELINE, batching=True), 2.0, {"untimed": (1.0, 2.0)}) | {
        "captions": captions
    }
    evidence = replace(read_evidence(session, BASELINE), experiments=(found,))
    said = {each.text: each for each in make_report(evidence, {}).recommendations}
    assert said["Switch batching on (key b)."].evidence.endswith("384 cycles, fault: node 2 sends 20 ms late")


def test_roi_is_share_times_speed_up_by_days(report):
    """Of a projection: its speed-up of the share that it acts on is what Amdahl's law was given."""
    parallel = next(each for each in report.optimisations if each.key == "p")
    assert parallel.roi == pytest.approx(parallel.share * 100 * 8 / 2.5, rel=1e-6)


def test_what_gains_more_than_its_share_has_no_roi_and_is_not_called_limitless(session):
    evidence = replace(
        read_evidence(session, BASELINE),
        experiments=(experiment(BASELINE, replace(BASELINE, parallel_orders=True), 50.0, {"untimed": (1.0, 0.02)}),),
    )
    report = make_report(evidence, {"z": 1.0})
    (table,) = (block for block in _section(report, "Return on work: cost and benefit") if isinstance(block, Table))
    roi = {row[0]: row[-1] for row in table.rows}
    assert roi["parallel orders"] == "gains more than its share"
    assert roi["async confirmation"] == "no limit"


def test_an_optimisation_that_costs_time_ranks_before_one_without_an_estimate(session):
    evidence = replace(
        read_evidence(session, BASELINE),
        experiments=(experiment(BASELINE, replace(BASELINE, serialization=OPTIMISED.serialization), 0.5, {}),),
    )
    report = make_report(evidence, {"z": 1.0})
    (table,) = (block for block in _section(report, "Return on work: cost and benefit") if isinstance(block, Table))
    ranked = {row[0]: (place, row[6]) for place, row in enumerate(table.rows)}
    assert ranked["zero rtt"][1] == "0.00", "0-RTT saves nothing in a cycle"
    assert float(ranked["serialization"][1]) < 0.0
    assert ranked["zero rtt"][0] < ranked["serialization"][0] < ranked["optimistic execution"][0]
    assert ranked["optimistic execution"][1] == ""


@pytest.mark.parametrize("change", [{"consensus": Consensus.RAFT}, {"serialization": Serialization.MSGPACK_COLUMNS}])
def test_all_together_is_measured_by_key_9_from_any_profile(session, change):
    evidence = read_evidence(session, BASELINE)
    base = replace(BASELINE, **change)
    for first, second, measured in ((base, pressed(base, "9"), True), (base, replace(base, batching=True), False)):
        evidence = replace(
            evidence, toggles=base, experiments=(experiment(first, second, 5.0, {"untimed": (1.0, 0.2)}),)
        )
        together = make_report(evidence, {}).optimisations[-1]
        assert together.name == "all together"
        assert (together.measured is not None) == measured


def test_each_recommendation_says_its_rule(report):
    rules = {each.rule: each for each in report.recommendations}
    assert rules["DTW under 10% of wall time: leave it"].text == "Leave pattern matching alone."
    assert rules["measured, interval above 1"].text == "Switch batching on (key b)."
    assert all(each.rule and each.evidence for each in report.recommendations)
    assert not report.gpu.warranted
    assert "no GPU speeds it up" in report.gpu.text


def test_a_gpu_is_warranted_once_quic_is_small_and_matching_large(session):
    evidence = read_evidence(session, OPTIMISED)
    spans = {"quic_consensus": 0.01, "pattern_matching_dtw_single": 0.6}
    slowed = []
    for record in evidence.cycles:
        own = record.exclusive_ms * 0.0
        for name, share in spans.items():
            own[NAMES.index(name)] = share * record.wall_ms
        slowed.append(replace(record, exclusive_ms=own, untimed_ms=record.wall_ms - own.sum()))
    found = gpu_verdict(make_profile(replace(evidence, cycles=tuple(slowed))))
    assert found.warranted
    assert found.limit == pytest.approx(1 / (1 - 0.6 + 0.06))


def test_the_known_flaws_are_computed_from_the_reference_itself():
    reference = reference_profile()
    text = "\n".join(known_flaws(reference))
    for figure in ("5,050.03 ms", "2,129.79 ms", "46.4%", "34.4%", "39.1%", "14.3%", "30.7%", "6.54 ms", "0.0062 ms"):
        assert figure in text
    names = (*NAMES, "untimed")
    assert sum(reference.exclusive_ms(name) for name in names) == pytest.approx(reference.wall_ms)


def test_every_row_of_the_reference_has_its_counterpart(report):
    assert {row.name for row in report.compared} == {*NAMES, "untimed"}
    assert sum(row.reference_exclusive_share for row in report.compared) == pytest.approx(1.0)
    assert sum(row.exclusive_share for row in report.compared) == pytest.approx(1.0)


class _Page(HTMLParser):
    """What a page would fetch, and its text."""

    def __init__(self) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.tags: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            sources = ("src", "href", "xlink:href", "srcset", "data", "action", "poster")
            if name in sources and not str(value).startswith("#"):
                self.fetched.append(f"{tag} {name}={value}")
            if name == "style" and "url(" in str(value).replace("url(#", ""):
                self.fetched.append(f"{tag} style={value}")


def test_the_page_holds_all_it_needs(report):
    text = to_html(document_of(report), draw(report))
    page = _Page()
    page.feed(text)
    assert page.fetched == []
    assert not {"script", "link", "img", "iframe", "object", "embed"} & set(page.tags)
    assert page.tags.count("svg") == 4
    assert "@import" not in text
    assert "url(http" not in text
    assert "default-src 'none'" in text.replace("&#x27;", "'")
    for name in NAMES:
        assert name in text


def test_plots_are_xml_and_the_same_each_time(report):
    first, second = draw(report), draw(report)
    assert first == second
    for svg in first.values():
        assert ElementTree.fromstring(svg).tag.endswith("svg")


def test_text_from_a_session_cannot_become_markup(report):
    hostile = replace(report, evidence=replace(report.evidence, session="<script>alert(1)</script>", market="a|b"))
    document = document_of(hostile)
    assert "<script" not in to_html(document, {})
    assert "a\\|b" in to_markdown(document)


def test_the_json_holds_what_the_page_says(report):
    values = json.loads(json.dumps(to_dict(report)))
    assert len(values["ranking"]) == 30
    assert values["toggles"] == BASELINE.as_dict()
    assert values["machine"]["cores"] == os.cpu_count()
    assert values["optimisations"][0]["measured"]["captions"] == ["venue latency 3 ms (injected)"]


def test_the_command_as_a_person_runs_it(session, tmp_path):
    html, md, values = tmp_path / "r.html", tmp_path / "r.md", tmp_path / "r.json"
    command = [sys.executable, "-m", "tui.commands", "report", str(session.directory), "--toggles", "baseline"]
    done = subprocess.run(
        [*command, "--html", str(html), "--md", str(md), "--json", str(values)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "59 cycles of session" in " ".join(done.stderr.split())
    assert html.read_text().startswith("<!doctype html>")
    assert "## Ranking of all 29 operations" in md.read_text()
    assert json.loads(values.read_text())["summary"]["cycles"] == 59
    shown = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"COLUMNS": "160"})
    assert "Ranking of all 29 operations" in shown.stderr
    refused = subprocess.run([*command[:-1], "s=xml"], capture_output=True, text=True)
    assert refused.returncode == 2
    assert "s='xml'" in refused.stderr


def test_days_are_refused_whole():
    assert parse_days("x=2,z=0.5") == {"x": 2.0, "z": 0.5}
    for bad in ("x", "x=0", "x=-1", "y=1", "x=nan", "x=two"):
        with pytest.raises(ConfigError, match="want a toggle key"):
            parse_days(bad)


def test_intervals_cover_what_they_should():
    """Of 200 series of correlated times, the interval of a share holds the true one about 95 % of the time."""
    random = np.random.default_rng(3)
    held = 0
    for seed in range(200):
        noise = np.empty(300)
        noise[0] = 0.0
        steps = random.normal(0, 0.2, 300)
        for k in range(1, 300):
            noise[k] = 0.5 * noise[k - 1] + steps[k]
        part = 0.3 * np.exp(noise)
        whole = part + 0.7 * np.exp(random.normal(0, 0.1, 300))
        truth = 0.3 * np.exp(0.5 * 0.04 / 0.75) / (0.3 * np.exp(0.5 * 0.04 / 0.75) + 0.7 * np.exp(0.005))
        low, high = quotient_intervals(part[:, None], whole, seed, resamples=300)
        held += low[0] <= truth <= high[0]
    assert 170 <= held <= 200
    with pytest.raises(ValueError, match="2 or more"):
        median_interval(np.array([1.0]), 0)
