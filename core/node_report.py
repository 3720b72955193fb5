"""What a node tells monitors of itself."""

from __future__ import annotations

import os
import time

from core.decision import Veto
from core.node_parts import NodeParts
from core.records import EventRow, NodeStatus, PeerLink, PositionRow, ResultsRow
from core.session import GATEWAY_ID
from core.telemetry_messages import (
    NodeReport,
)


class ReportingNode(NodeParts):
    """A node that can be looked at."""

    def _report(self, events: tuple[EventRow, ...]) -> NodeReport:
        spec, portfolio = self._state.spec, self._state.portfolio
        quantum = spec.tick_size * spec.lot_size
        marks = self._trader.marks
        return NodeReport(
            status=self._status(),
            toggles=self._state.toggles,
            cycles_total=self._state.cycles_done,
            decisions_total=self._state.decisions_committed,
            denied_total=self._state.decisions_denied,
            positions=self._positions(),
            cash=portfolio.cash * quantum,
            equity=portfolio.equity(marks) * quantum,
            events=events,
            captions=self._kernels.captions + self._trader.captions + self._settings.captions(),
            market=spec.title,
            trading=str(self._state.trading),
            trading_reason=self._state.trading_reason,
            limits=self._state.limits_in_money(),
            fault=str(self._peer_wire.fault),
            in_control=self._claims.holder,
            results=self._results(),
            denials=tuple((Veto(veto).name.lower().replace("_", " "), n) for veto, n in self._denials.most_common()),
            told_ns=time.time_ns(),
        )

    def _status(self) -> NodeStatus:
        links = tuple(
            PeerLink(link.peer, link.connected, link.round_trip_ms, link.resumed, link.shed, link.refused)
            for link in self._endpoint.links()
            if link.peer in self._replica.nodes or link.peer == GATEWAY_ID
        )
        return NodeStatus(
            node=self._node,
            pid=os.getpid(),
            reachable=True,
            step=self._trader.step,
            lap=self._trader.lap,
            activity=self._leader.activity,
            replica=self._replica.status(),
            links=links,
            durability=self._settings.durability,
            accusations=self._accusations.all(),
            news=self._gossip.news(),
            disagreements=tuple(sorted(self._gossip.disagreements.items())),
            turned_away=self._endpoint.turned_away(),
        )

    def _results(self) -> ResultsRow:
        found, spec = self._state.results, self._state.spec
        quantum = spec.tick_size * spec.lot_size
        return ResultsRow(
            fees=self._state.portfolio.fees_paid * quantum,
            turnover=found.turnover * quantum,
            drawdown=found.drawdown * quantum,
            drawdown_fraction=found.drawdown / found.drawdown_from if found.drawdown_from else 0.0,
            closed_trades=found.closed_trades,
            winning_trades=found.winning_trades,
        )

    def _positions(self) -> tuple[PositionRow, ...]:
        spec, portfolio, marks = self._state.spec, self._state.portfolio, self._trader.marks
        quantum = spec.tick_size * spec.lot_size
        return tuple(
            PositionRow(
                instrument=instrument.symbol,
                quantity=float(portfolio.positions[i]) * spec.lot_size,
                average_price=portfolio.average_price(i) * spec.tick_size,
                mark_price=float(marks[i]) * spec.tick_size,
                realised=portfolio.realised[i] * quantum,
                unrealised=portfolio.unrealised(i, int(marks[i])) * quantum,
            )
            for i, instrument in enumerate(spec.instruments)
        )

    def _limits_text(self) -> str:
        return ", ".join(f"{name} {value:,.10g}" for name, value in self._state.limits_in_money().items())
