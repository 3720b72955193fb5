"""The settings that have a flag of their own on the command line."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from core.config import Settings, load_settings

SETTINGS_FLAGS = (
    "data",
    "patterns",
    "pace",
    "toggles",
    "durability",
    "fast_path",
    "nodes",
    "headlines",
    "venue_latency_ms",
    "venue_jitter_ms",
    "link",
)


def add_settings_flags(parser: argparse.ArgumentParser) -> None:
    """`--config` and a flag for each of `SETTINGS_FLAGS`."""
    parser.add_argument("--config", type=Path, metavar="FILE", help="settings as TOML")
    for name in SETTINGS_FLAGS:
        field = Settings.model_fields[name]
        options: dict[str, Any] = {"action": "store_true"} if field.annotation is bool else {}
        description = (field.description or "").replace("%", "%%")
        parser.add_argument(f"--{name.replace('_', '-')}", default=None, help=description, **options)


def settings_of(arguments: argparse.Namespace) -> Settings:
    """Of the file and the flags. Raises ConfigError."""
    flags: dict[str, Any] = {name: getattr(arguments, name, None) for name in SETTINGS_FLAGS}
    return load_settings(arguments.config, **flags)
