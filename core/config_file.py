"""Changing a configuration file in place: comments and order stay, and it is written only if all of it is valid."""

from __future__ import annotations

import json
import os
import re
import secrets
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from core.config import ENVIRONMENT_PREFIX, ConfigError, Settings, explain, load_settings


def with_text(settings: Settings, name: str, text: str) -> Settings:
    """`settings` with one value as a person typed it. Raises ConfigError that names the setting and what is allowed."""
    if name not in Settings.model_fields:
        raise ConfigError(f"{name}: there is no such setting")
    try:
        return Settings(**(settings.model_dump() | {name: text.strip()}))
    except ValidationError as error:
        raise ConfigError(explain(error)) from None


def settings_of(path: Path) -> Settings:
    """What the file and the environment come to; the defaults where there is no file. Raises ConfigError."""
    return load_settings(path if path.is_file() else None)


def overridden(path: Path, changes: Mapping[str, object]) -> tuple[str, ...]:
    """The environment variables that keep written `changes` from counting. Raises ConfigError."""
    resolved = settings_of(path)
    return tuple(
        f"{ENVIRONMENT_PREFIX}{name.upper()}" for name, value in changes.items() if getattr(resolved, name) != value
    )


def write_changes(path: Path, changes: Mapping[str, object]) -> None:
    """Set these values in the file, which is made where it is missing; everything else in it stays as it is.

    Raises ConfigError where the result would not be valid, or the file is written in a way that cannot be edited here;
    OSError where it cannot be written. The file is then as it was.
    """
    before = path.read_text() if path.exists() else ""
    after = _edited(before, changes)
    _check(path, before, after, changes)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        temporary.write_text(after)
        if path.exists():
            os.chmod(temporary, path.stat().st_mode & 0o777)
        load_settings(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _edited(text: str, changes: Mapping[str, object]) -> str:
    lines = text.splitlines()
    added: list[str] = []
    for name, value in changes.items():
        line = f"{name} = {_toml(value)}"
        at = next((k for k, each in enumerate(lines) if re.match(rf"\s*{re.escape(name)}\s*=", each)), None)
        if at is None:
            meaning = " ".join((Settings.model_fields[name].description or name).split())
            added += ["", f"# {meaning}", line]
        else:
            lines[at] = line + _comment(lines[at])
    # The file has no tables, so what is added may stand at its end.
    return "\n".join([*lines, *(added if lines else added[1:])]) + "\n"


def _comment(line: str) -> str:
    """The comment behind a value, with the blanks before it; empty where there is none."""
    for at, character in enumerate(line):
        if character == "#" and _is_whole(line[:at]):
            return line[len(line[:at].rstrip()) :]
    return ""


def _is_whole(text: str) -> bool:
    """Whether this is an assignment already, so that a `#` behind it is no part of a string."""
    try:
        return bool(tomllib.loads(text))
    except tomllib.TOMLDecodeError:
        return False


def _toml(value: object) -> str:
    if isinstance(value, bool | int | float):
        return json.dumps(value)
    return json.dumps(str(value), ensure_ascii=False)


def _check(path: Path, before: str, after: str, changes: Mapping[str, object]) -> None:
    """Exactly the changes were made."""
    try:
        old: dict[str, Any] = tomllib.loads(before)
        new = tomllib.loads(after)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"config file {path} cannot be edited here: {error}; edit it by hand") from None
    want = old | {
        name: value if isinstance(value, bool | int | float) else str(value) for name, value in changes.items()
    }
    if new != want:
        raise ConfigError(f"config file {path} is written in a way that cannot be edited here; edit it by hand")
