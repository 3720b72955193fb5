"""What a sweep runs: a full factorial over toggles and settings, every cell so many times, in an order as drawn."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from core.config import ConfigError, Settings, load_settings
from core.toggles import FIELD_OF_KEY

RUNS_MAX = 10_000
CYCLES_MIN = 10
_KEYS = frozenset(("cycles", "replicates", "seed", "settings", "factors"))


@dataclass(frozen=True, slots=True)
class Factor:
    """A toggle's key or a setting's name, and the values that it takes; effects are against the first."""

    name: str
    levels: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class SweepSpec:
    """`settings` hold for every run."""

    factors: tuple[Factor, ...]
    settings: dict[str, Any]
    cycles: int
    replicates: int
    seed: int

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready: two sweeps with the same one can share a file."""
        return {
            "factors": {factor.name: list(factor.levels) for factor in self.factors},
            "settings": self.settings,
            "cycles": self.cycles,
            "replicates": self.replicates,
            "seed": self.seed,
        }

    def cells(self) -> tuple[tuple[int, ...], ...]:
        """Every combination, as the place of each factor's level; the last factor changes fastest."""
        return tuple(product(*(range(len(factor.levels)) for factor in self.factors)))


@dataclass(frozen=True, slots=True)
class Run:
    """One run of one cell. `flags` are settings as `load_settings` takes them; it is plain, so that it can travel."""

    cell: tuple[int, ...]
    replicate: int
    flags: dict[str, Any]
    cycles: int


def read_spec(path: Path) -> SweepSpec:
    """Read a specification; every cell's settings are checked. Raises ConfigError that names what is wrong."""
    try:
        values = tomllib.loads(path.read_text())
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path} is no TOML: {error}") from None
    unknown = set(values) - _KEYS
    if unknown:
        raise ConfigError(f"{path}: {', '.join(sorted(unknown))} is unknown; known are {', '.join(sorted(_KEYS))}")
    numbers = {name: values.get(name, default) for name, default in (("cycles", 60), ("replicates", 2), ("seed", 1))}
    for name, value in numbers.items():
        if type(value) is not int or value < (CYCLES_MIN if name == "cycles" else 1 if name == "replicates" else 0):
            raise ConfigError(
                f"{path}: {name} = {value!r}: want a whole number ({CYCLES_MIN} cycles, 1 replicate or more)"
            )
    spec = SweepSpec(_factors(path, values.get("factors", {})), _settings(path, values.get("settings", {})), **numbers)
    if len(spec.cells()) * spec.replicates > RUNS_MAX:
        raise ConfigError(f"{path}: {len(spec.cells()) * spec.replicates:,} runs; at most {RUNS_MAX:,}")
    for cell in spec.cells():
        load_settings(**flags_of(spec, cell))
    return spec


def _settings(path: Path, values: Any) -> dict[str, Any]:
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: settings = {values!r}: want a table [settings], such as venue_latency_ms = 3")
    return values


def _factors(path: Path, values: Any) -> tuple[Factor, ...]:
    if not isinstance(values, dict) or not values:
        raise ConfigError(f"{path}: want a table [factors], such as b = ['off', 'on']")
    found = []
    for name, levels in values.items():
        if name not in FIELD_OF_KEY and (name not in Settings.model_fields or name in ("toggles", "cycles")):
            raise ConfigError(f"{path}: factor {name!r} is neither a toggle ({' '.join(FIELD_OF_KEY)}) nor a setting")
        if not isinstance(levels, list) or len(levels) < 2 or len({repr(level) for level in levels}) < len(levels):
            raise ConfigError(f"{path}: factor {name} = {levels!r}: want two different values or more")
        found.append(Factor(name, tuple(levels)))
    return tuple(found)


def flags_of(spec: SweepSpec, cell: tuple[int, ...]) -> dict[str, Any]:
    """The settings of a cell. Toggles that are factors are set on top of `settings.toggles`."""
    flags = dict(spec.settings)
    toggles = [str(flags.get("toggles", "baseline"))]
    for factor, place in zip(spec.factors, cell, strict=True):
        level = factor.levels[place]
        if factor.name not in FIELD_OF_KEY:
            flags[factor.name] = level
        elif level in ("off", False):
            toggles.append(f"-{factor.name}")
        elif level in ("on", True):
            toggles.append(factor.name)
        else:
            toggles.append(f"{factor.name}={level}")
    flags["toggles"] = ",".join(toggles)
    return flags


def runs_of(spec: SweepSpec) -> tuple[Run, ...]:
    """All runs: replicate after replicate, the cells of each in an order of its own, so that drift hits none more."""
    random = np.random.default_rng(spec.seed)
    cells = spec.cells()
    return tuple(
        Run(cells[k], replicate, flags_of(spec, cells[k]), spec.cycles)
        for replicate in range(spec.replicates)
        for k in random.permutation(len(cells)).tolist()
    )
