"""The settings of a swarm: a TOML file, the environment (`TRADETUI_…`) and flags, typed, a bad value named and refused.

Precedence: flags, then environment, then the file, then these defaults. A session keeps the values it resolved to in
its own `session.toml`, so that every process of a swarm, and whoever looks at it later, reads the same ones.
"""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, TomlConfigSettingsSource

from core.market.shipped import SHIPPED_MARKETS
from core.toggles import parse_toggles
from net.batch import BatchPolicy
from net.link_model import parse_links
from net.quorum import fast_path_possible

ENVIRONMENT_PREFIX = "TRADETUI_"


class ConfigError(ValueError):
    """A setting is wrong; the text names it, its value and what is allowed."""


class Settings(BaseSettings):
    """Every setting of a swarm, with its unit last in its name."""

    model_config = SettingsConfigDict(
        env_prefix=ENVIRONMENT_PREFIX, extra="forbid", frozen=True, use_attribute_docstrings=True, validate_default=True
    )

    nodes: Annotated[int, Field(ge=4, le=10)] = 4
    """Node processes; Byzantine consensus tolerates one traitor from 4 on, two from 7 on."""
    data: str = "us-stocks"
    """`us-stocks`, `futures-ticks`, or a file or folder of your own."""
    pace: str = "max"
    """Market steps a second: `max`, or for example `1/s` or `20/s`."""
    cycles: Annotated[int, Field(ge=0)] = 0
    """Trade this many cycles, then rest; 0 trades without end."""
    toggles: str = "baseline"
    """Optimisations at the start: `baseline`, `optimised`, or keys such as `b,s,m=raft`."""
    durability: Literal["strict", "none"] = "strict"
    """`strict` syncs votes and entries to disk before they are promised; `none` does not, and every result says so."""
    pattern_count: Annotated[int, Field(ge=1, le=1_000_000)] = 1_000
    """Patterns in the library."""
    patterns: str = ""
    """A library that `tradetui mine` wrote; empty: windows at even distances in the recording's first 40 %."""
    window_steps: Annotated[int, Field(ge=8, le=252)] = 64
    """Length of a pattern and of the live window, steps."""
    warping_window_fraction: Annotated[float, Field(ge=0, le=1)] = 0.1
    """Sakoe-Chiba band as a fraction of the window."""
    gpu: bool = False
    """The batch DTW kernel on a CUDA device, where there is one; `tradetui doctor` checks it."""
    headlines: str = "sample"
    """`sample` (headlines written for this project), or the URL or file of an RSS or Atom feed."""
    starting_cash: Annotated[float, Field(gt=0)] = 1_000_000.0
    """Cash at the start, in the quote currency."""
    batch_max: Annotated[int, Field(ge=1, le=256)] = 20
    """Proposals in one message and round when batching is on."""
    batch_wait_ms: Annotated[float, Field(ge=0, le=1_000)] = 5.0
    """Longest time that a batch collects."""
    batch_policy: BatchPolicy = BatchPolicy.ADAPTIVE
    """What sends a batch off when batching is on: `off`, `timer`, or `adaptive` (as timer, and at once when idle)."""
    link: str = ""
    """Injected between nodes and gateway: `delay=4ms,jitter=1ms,loss=0.5%`, or `0-1:delay=40ms;1-2:loss=1%` by pair."""
    http_port: Annotated[int, Field(ge=0, le=65_000)] = 0
    """Node k serves plain HTTP on loopback at this port + k, for Prometheus; 0: HTTP/3 alone."""
    congestion_control: Literal["reno", "cubic"] = "reno"
    """What QUIC does about congestion."""
    orders_in_flight: Annotated[int, Field(ge=1, le=64)] = 8
    """Orders at the venue at once when parallel orders is on."""
    election_timeout_ms: Annotated[float, Field(ge=50, le=60_000)] = 600.0
    """A silent leader is replaced after this time (randomised up to twice as long)."""
    fast_path: bool = False
    """Byzantine decisions in two message delays, with 4 or 5 nodes; limits are then judged as a decision is applied."""
    checkpoint_interval_entries: Annotated[int, Field(ge=0, le=1_000_000)] = 4_096
    """Nodes certify their state and cut their logs each so many entries; 0: logs grow without end."""
    recording_mb_max: Annotated[int, Field(ge=0, le=1_000_000)] = 500
    """At this size, megabytes, a recording forgets its older half (half as much again meanwhile); 0: no recording."""
    gateway_protocol: Literal["binance", "fix", "ccxt"] = "binance"
    """What the gateway speaks with the venue: Binance Spot's WebSocket API, FIX 4.4, or what ccxt makes of it."""
    venue_address: str = ""
    """Another venue than the session's own: `wss://HOST:PORT/PATH` (binance), `tls://HOST:PORT` (fix), `ws://` and
    `tcp://` without encryption, `EXCHANGE` or `EXCHANGE:sandbox` (ccxt). Beyond this machine it wants `--live`."""
    venue_keys: str = ""
    """File of mode 600 with the keys of that venue as JSON (api_key, secret); empty: the environment's
    TRADETUI_VENUE_API_KEY and TRADETUI_VENUE_API_SECRET."""
    venue_latency_ms: Annotated[float, Field(ge=0, le=10_000)] = 0.0
    """Injected latency of every answer of the venue; shown wherever its results are."""
    venue_jitter_ms: Annotated[float, Field(ge=0, le=10_000)] = 0.0
    """Injected jitter of every answer of the venue; shown wherever its results are."""
    venue_reject_rate: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Injected: share of new orders that the venue refuses; shown wherever its results are."""
    venue_drop_rate: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Injected: share of requests to the venue, or of its answers, that are lost; shown wherever its results are."""
    venue_disconnect_rate: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Injected: share of requests upon which the venue cuts the link; shown wherever its results are."""
    venue_cancel_on_disconnect: bool = False
    """The venue cancels the gateway's open orders when its link is gone."""
    venue_halts: str = ""
    """Market steps at which trading of an instrument rests: `AAPL:100-120,MSFT:300-310`."""
    venue_spread_bps: Annotated[float, Field(ge=0, le=1_000)] = 2.0
    """Spread of the modelled liquidity, basis points."""
    venue_depth_notional: Annotated[float, Field(gt=0)] = 250_000.0
    """Depth of each level of the modelled liquidity, quote currency."""
    reconcile_interval_s: Annotated[float, Field(ge=0, le=86_400)] = 30.0
    """Journal and venue are compared each so many seconds, beside each connect and change of leader; 0: only then."""
    order_rate_max_s: Annotated[int, Field(ge=1, le=1_000_000)] = 5_000
    """Orders a second, by each node's own clock; beyond it the node vetoes."""
    var_budget_fraction: Annotated[float, Field(gt=0, le=10)] = 0.10
    """Value at risk one step ahead at 97.5 % with the order, fraction of equity; beyond it a node vetoes."""
    daily_loss_fraction_max: Annotated[float, Field(gt=0, le=1)] = 0.25
    """Loss of equity since the start of the UTC day; beyond it a node lets positions be reduced only."""
    clock_skew_max_ms: Annotated[float, Field(gt=0, le=60_000)] = 1_000.0
    """Between a proposer's clock and a judging node's; beyond it the node vetoes."""
    kill_after_link_loss_s: Annotated[float, Field(ge=0, le=86_400)] = 30.0
    """A venue that was there and is away for so long pulls the kill switch; 0: trading only pauses."""
    fault_equivocate_node: Annotated[int, Field(ge=-1, le=9)] = -1
    """Fault on purpose: this node signs two contradictory Byzantine votes once a second; -1: none."""
    fault_overlimit_node: Annotated[int, Field(ge=-1, le=9)] = -1
    """Fault on purpose: while it leads, this node proposes an order beyond the limits in every decision; -1: none."""
    restart_delay_ms: Annotated[float, Field(ge=0, le=60_000)] = 500.0
    """A process that died is started again after this time."""

    @field_validator("toggles")
    @classmethod
    def _toggles_parse(cls, value: str) -> str:
        parse_toggles(value)
        return value

    @model_validator(mode="after")
    def _fast_path_fits(self) -> Settings:
        if self.fast_path and not fast_path_possible(self.nodes):
            raise ValueError(f"fast_path needs 4 or 5 nodes, there are {self.nodes}: turn it off, or change nodes")
        return self

    @field_validator("pace")
    @classmethod
    def _pace_parses(cls, value: str) -> str:
        from core.market.pace import parse_pace

        parse_pace(value)
        return value

    @field_validator("data", "patterns", "venue_keys")
    @classmethod
    def _path_absolute(cls, value: str) -> str:
        # every process of the swarm must find the same file, and whoever looks at the session from another folder
        return str(Path(value).expanduser().resolve()) if value and value not in SHIPPED_MARKETS else value

    @field_validator("link")
    @classmethod
    def _link_parses(cls, value: str) -> str:
        parse_links(value)
        return value

    @field_validator("venue_halts")
    @classmethod
    def _halts_parse(cls, value: str) -> str:
        parse_halts(value)
        return value

    @property
    def band_steps(self) -> int:
        """Sakoe-Chiba half width in steps."""
        return max(1, int(self.window_steps * self.warping_window_fraction))

    @property
    def answer_timeout_ms(self) -> float:
        """An order that the venue has not answered for so long is in doubt, and asked after."""
        return 5_000 + 2 * (self.venue_latency_ms + self.venue_jitter_ms)

    @property
    def gateway_drain_s(self) -> float:
        """So long a gateway that stops waits for the venue's word on what is on the wire: an answer, or a question
        after it did not come."""
        return 2 * self.answer_timeout_ms / 1e3

    def captions(self) -> tuple[str, ...]:
        """Settings that must stand beside every result made under them."""
        found = []
        if self.venue_address:
            found.append(f"venue {self.venue_address}")
        if self.venue_latency_ms:
            found.append(f"venue latency {self.venue_latency_ms:g} ms (injected)")
        if self.venue_jitter_ms:
            found.append(f"venue jitter {self.venue_jitter_ms:g} ms (injected)")
        if parse_links(self.link):
            found.append(f"links {self.link} (injected)")
        if self.congestion_control != "reno":
            found.append(f"congestion control {self.congestion_control}")
        if self.batch_policy is not BatchPolicy.ADAPTIVE:
            found.append(f"batch policy {self.batch_policy}")
        for name, rate in (
            ("rejects", self.venue_reject_rate),
            ("drops", self.venue_drop_rate),
            ("cuts", self.venue_disconnect_rate),
        ):
            if rate:
                found.append(f"venue {name} {rate:.1%} (injected)")
        if self.venue_halts:
            found.append(f"trading halts {self.venue_halts} (set)")
        if self.durability != "strict":
            found.append("durability none")
        if self.fast_path:
            found.append("Byzantine fast path")
        if self.headlines == "sample":
            found.append("sample headlines")
        if self.fault_equivocate_node >= 0:
            found.append(f"fault: node {self.fault_equivocate_node} equivocates")
        if self.fault_overlimit_node >= 0:
            found.append(f"fault: node {self.fault_overlimit_node} proposes beyond the limits")
        if self.pace != "max":
            found.append(f"pace {self.pace}")
        return tuple(found)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (init_settings, env_settings, TomlConfigSettingsSource(settings_cls))


def parse_halts(text: str) -> tuple[tuple[str, int, int], ...]:
    """`AAPL:100-120,MSFT:300-310` as (symbol, first step, last step). Raises ValueError naming the bad part."""
    found = []
    for part in filter(None, text.split(",")):
        symbol, _, steps = part.strip().rpartition(":")
        first, _, last = steps.partition("-")
        if not (symbol and first.isdecimal() and last.isdecimal() and int(first) <= int(last)):
            raise ValueError(f"{part!r} is no halt; want SYMBOL:FIRST-LAST in market steps")
        found.append((symbol, int(first), int(last)))
    return tuple(found)


def load_settings(config_file: Path | None = None, **flags: Any) -> Settings:
    """Resolve the settings. `flags` that are None were not given.

    Raises ConfigError naming every bad setting with its value, or the file that cannot be read.
    """
    given = {name: value for name, value in flags.items() if value is not None}
    if config_file is not None and not config_file.is_file():
        raise ConfigError(f"config file {config_file} does not exist")

    class FromFile(Settings):
        model_config = SettingsConfigDict(toml_file=config_file)

    try:
        resolved = FromFile(**given)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"config file {config_file} is no TOML: {error}") from None
    except ValidationError as error:
        raise ConfigError(explain(error)) from None
    return Settings.model_construct(**resolved.model_dump())


def read_settings(path: Path) -> Settings:
    """The settings that a session resolved to, as `write_settings` left them; the environment of today has no say.

    Raises ConfigError naming every bad setting with its value, or the file that cannot be read.
    """
    if not path.is_file():
        raise ConfigError(f"settings file {path} does not exist")
    try:
        # Values that are given come before the environment's, so all are given.
        return Settings(**(Settings.model_construct().model_dump() | tomllib.loads(path.read_text())))
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"settings file {path} is no TOML: {error}") from None
    except ValidationError as error:
        raise ConfigError(explain(error)) from None


def explain(error: ValidationError) -> str:
    """What was wrong with which setting, a line each."""
    lines = []
    for problem in error.errors():
        name = ".".join(str(part) for part in problem["loc"]) or "settings"
        if problem["type"] == "extra_forbidden":
            lines.append(f"{name}: there is no such setting; known are {', '.join(Settings.model_fields)}")
        else:
            lines.append(f"{name} = {problem['input']!r}: {problem['msg'].removeprefix('Value error, ')}")
    return "\n".join(lines)


def write_settings(settings: Settings, path: Path) -> None:
    """Write every setting, with its docstring, as TOML."""
    lines = ["# The settings this session resolved to."]
    for name, field in Settings.model_fields.items():
        value = getattr(settings, name)
        text = json.dumps(value)
        lines += ["", f"# {' '.join((field.description or '').split())}", f"{name} = {text}"]
    path.write_text("\n".join(lines) + "\n")
