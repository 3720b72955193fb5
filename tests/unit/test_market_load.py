"""Shipped recordings, and every way in which a user's own can be refused: file, row and column are named."""

from __future__ import annotations

import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import duckdb
import numpy as np
import pytest

from core.market.errors import MarketDataError
from core.market.load import DATA_DIRECTORY, load_market, verify_checksum
from tests.market_recordings import Sheet, panel, ticks

SUFFIXES = (".csv", ".parquet")


def refused(path: Path, row: int | None, column: str | None, *words: str, file: Path | None = None) -> MarketDataError:
    with pytest.raises(MarketDataError) as caught:
        load_market(path)
    error, text = caught.value, str(caught.value)
    assert (error.file, error.row, error.column) == (str(file or path), row, column), text
    assert (file or path).name in text
    assert row is None or f"row {row}," in text or f"row {row}:" in text
    assert column is None or f"column {column}" in text
    assert error.remedy in text
    for word in words:
        assert word in text
    return error


def test_us_stocks_is_the_shipped_panel() -> None:
    data = load_market("us-stocks")
    spec = data.spec
    assert spec.title == "us-stocks: 20 instruments, 1 day a step"
    assert (spec.tick_size, spec.lot_size, spec.steps_total) == (0.0001, 1.0, 8_313)
    assert (spec.step_label, spec.has_depth, spec.source, spec.annualisation) == ("day", False, "package", 252.0)
    assert [i.index for i in spec.instruments] == list(range(20))
    path = DATA_DIRECTORY / "us_stocks_daily.parquet"
    expected = duckdb.sql(f"SELECT close FROM '{path}' ORDER BY instrument, date").fetchnumpy()["close"]
    np.testing.assert_array_equal(data.closes(0, spec.steps_total), np.asarray(expected).reshape(20, 8_313))
    assert str(data.ts_ns[[0, -1]].astype("datetime64[ns]").astype("datetime64[D]")) == "['1990-01-02' '2022-12-28']"


def test_futures_ticks_is_the_shipped_tick_recording() -> None:
    data = load_market("futures-ticks")
    assert data.spec.title == "futures-ticks: 1 instrument, 1 second a step"
    assert (data.spec.tick_size, data.spec.lot_size, data.spec.steps_total) == (0.25, 1.0, 34_171)
    assert (data.spec.step_label, data.spec.has_depth) == ("second", False)
    assert data.events.count(0, 34_171) == 500_000


def test_shipped_files_carry_provenance_and_checksums() -> None:
    listed = {line.split()[1] for line in (DATA_DIRECTORY / "SHA256SUMS").read_text().splitlines()}
    assert listed == {path.name for path in DATA_DIRECTORY.glob("*.parquet")}
    provenance = (DATA_DIRECTORY / "PROVENANCE.md").read_text()
    assert all(name in provenance for name in listed)


def test_a_damaged_shipped_file_is_refused(tmp_path: Path) -> None:
    copy = Path(shutil.copytree(DATA_DIRECTORY, tmp_path / "data")) / "us_stocks_daily.parquet"
    verify_checksum(copy)
    content = bytearray(copy.read_bytes())
    content[1000] ^= 1
    copy.write_bytes(content)
    with pytest.raises(MarketDataError, match=r"us_stocks_daily\.parquet: its SHA-256 is .* install tradetui again"):
        verify_checksum(copy)
    copy.unlink()
    with pytest.raises(MarketDataError, match="missing"):
        verify_checksum(copy)


def test_shipped_files_are_verified_when_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = Path(shutil.copytree(DATA_DIRECTORY, tmp_path / "data"))
    (copy / "futures_ticks.parquet").write_bytes(b"PAR1")
    monkeypatch.setattr("core.market.load.DATA_DIRECTORY", copy)
    with pytest.raises(MarketDataError, match="SHA-256"):
        load_market("futures-ticks")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_panel_of_the_user(tmp_path: Path, suffix: str) -> None:
    sheet = panel()
    path = sheet.write(tmp_path / f"prices{suffix}")
    for source in (path, str(path), tmp_path):
        data = load_market(source)
        assert data.spec.symbols == ("AAA", "BBB", "CCC")
        assert (data.spec.tick_size, data.spec.lot_size, data.spec.steps_total) == (0.01, 1.0, 200)
        assert data.spec.source == str(source)
        expected = np.array([row[2] for row in sheet.rows]).reshape(200, 3).T
        np.testing.assert_array_equal(data.closes(0, 200), expected)
        assert 360 < data.spec.annualisation < 370
    assert load_market(path).spec.title == "prices: 3 instruments, 1 day a step"


def test_a_panel_by_ts_ns_knows_its_step(tmp_path: Path) -> None:
    sheet = panel()
    sheet.header[0] = "ts_ns"
    for index, row in enumerate(sheet.rows):
        row[0] = 1_700_000_000_000_000_000 + index // 3 * 300_000_000_000
    data = load_market(sheet.write(tmp_path / "five.csv"))
    assert data.spec.title == "five: 3 instruments, 5 minutes a step"
    assert data.spec.step_label == "minute"


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_ticks_of_the_user(tmp_path: Path, suffix: str) -> None:
    sheet = ticks()
    data = load_market(sheet.write(tmp_path / f"es{suffix}"))
    assert (data.spec.tick_size, data.spec.lot_size, data.spec.steps_total) == (0.01, 1.0, 180)
    assert data.spec.symbols == ("ES",)
    assert data.events.count(0, 180) == len(sheet.rows)


def test_ticks_may_be_called_trades(tmp_path: Path) -> None:
    assert load_market(ticks().write(tmp_path / "es_trades.csv")).spec.steps_total == 180


def _swap(sheet: Sheet) -> None:
    sheet.rows[30:33], sheet.rows[60:63] = sheet.rows[60:63], sheet.rows[30:33]


PANEL_REFUSALS: dict[str, tuple[Callable[[Sheet], None], int | None, str, str]] = {
    "column is missing": (lambda s: s.drop("close"), None, "close", "the column is missing; the file has"),
    "instrument is missing": (lambda s: s.drop("instrument"), None, "instrument", "the column is missing"),
    "date is missing": (lambda s: s.drop("date"), None, "date", "the column is missing"),
    "time unsorted": (_swap, 34, "date", "time goes back"),
    "negative price": (lambda s: s.set(17, "close", -3.5), 17, "close", "-3.5 is not a finite number above 0"),
    "zero price": (lambda s: s.set(18, "close", 0.0), 18, "close", "0.0 is not"),
    "NaN price": (lambda s: s.set(19, "close", "nan"), 19, "close", "nan is not"),
    "infinite price": (lambda s: s.set(20, "close", "inf"), 20, "close", "inf is not"),
    "no price": (lambda s: s.set(21, "close", ""), 21, "close", "the value is missing"),
    "no instrument": (lambda s: s.set(24, "instrument", ""), 24, "instrument", "the value is missing"),
    "duplicate": (
        lambda s: s.set(32, "instrument", "AAA"),
        32,
        "instrument",
        "duplicate (date, instrument), first seen in row 31",
    ),
    "gap": (lambda s: s.rows.pop(31), 31, "instrument", "2020-01-11 has no row for BBB"),
    "instrument that comes once": (lambda s: s.set(33, "instrument", "DDD"), 1, "instrument", "has no row for DDD"),
}


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("case", PANEL_REFUSALS)
def test_a_panel_is_refused_whole(tmp_path: Path, case: str, suffix: str) -> None:
    spoil, row, column, words = PANEL_REFUSALS[case]
    sheet = panel()
    spoil(sheet)
    refused(sheet.write(tmp_path / f"prices{suffix}"), row, column, words)


TICK_REFUSALS: dict[str, tuple[Callable[[Sheet], None], int | None, str, str]] = {
    "column is missing": (lambda s: s.drop("quantity"), None, "quantity", "the column is missing"),
    "time unsorted": (lambda s: s.set(50, "ts_ns", 1), 50, "ts_ns", "time goes back"),
    "negative price": (lambda s: s.set(17, "price", -1), 17, "price", "-1.0 is not"),
    "NaN price": (lambda s: s.set(17, "price", "nan"), 17, "price", "nan is not"),
    "no quantity": (lambda s: s.set(19, "quantity", 0), 19, "quantity", "0.0 is not"),
}


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("case", TICK_REFUSALS)
def test_ticks_are_refused_whole(tmp_path: Path, case: str, suffix: str) -> None:
    spoil, row, column, words = TICK_REFUSALS[case]
    sheet = ticks()
    spoil(sheet)
    refused(sheet.write(tmp_path / f"es{suffix}"), row, column, words)


def test_a_text_in_a_number_column_is_named(tmp_path: Path) -> None:
    sheet = panel()
    sheet.set(12, "close", "n/a")
    refused(sheet.write(tmp_path / "prices.csv"), 12, "close", "'n/a' is not a number")
    sheet = panel()
    sheet.set(13, "date", "13.01.2020")
    refused(sheet.write(tmp_path / "prices.csv"), 13, "date", "is not a date such as")


def test_the_first_bad_row_is_named_when_many_are_bad(tmp_path: Path) -> None:
    sheet = panel()
    for row in (400, 44, 180):
        sheet.set(row, "close", -1.0)
    refused(sheet.write(tmp_path / "prices.parquet"), 44, "close")


def test_what_is_no_recording_is_refused(tmp_path: Path) -> None:
    refused(tmp_path / "nowhere", None, None, "neither a file or directory", "us-stocks, futures-ticks")
    refused(tmp_path, None, None, "has no .parquet or .csv file")
    (tmp_path / "notes.txt").write_text("close")
    refused(tmp_path / "notes.txt", None, None, "neither .parquet nor .csv")
    broken = tmp_path / "broken.parquet"
    broken.write_bytes(b"not a parquet file")
    refused(broken, None, None, "cannot be read")
    strange = Sheet(["colour", "size"], [["red", 1]]).write(tmp_path / "strange.csv")
    refused(strange, None, None, "neither a panel's nor ticks")
    refused(tmp_path, None, None, "2 files")
    refused(Sheet(panel().header, []).write(tmp_path / "empty.csv"), None, None, "no rows")
    short = panel(steps=160).write(tmp_path / "short.csv")
    refused(short, None, None, "160 steps are too few", "161")
    assert load_market(panel(steps=161).write(tmp_path / "least.csv")).layout.steps_per_lap == 32


def test_a_path_with_wildcards_is_one_file(tmp_path: Path) -> None:
    directory = tmp_path / "a[b]*c"
    directory.mkdir()
    assert load_market(panel().write(directory / "prices.parquet")).spec.steps_total == 200


def test_the_error_survives_pickling() -> None:
    error = MarketDataError("a.csv", "the price is -1", "Correct it", row=3, column="close")
    assert str(error) == "a.csv, row 3, column close: the price is -1. Correct it."
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("last", [True, False], ids=["newline at the end", "none at the end"])
def test_the_last_row_counts_with_or_without_a_newline_after_it(tmp_path: Path, newline: str, last: bool) -> None:
    path = panel().write(tmp_path / "prices.csv")
    lines = path.read_text(encoding="utf-8").splitlines()
    path.write_text(newline.join(lines) + newline * last, encoding="utf-8", newline="")
    data = load_market(path)
    assert data.spec.steps_total == 200
    assert data.closes(199, 200)[2, 0] == float(lines[-1].rsplit(",", 1)[1])
    lines[-1] = lines[-1].rsplit(",", 1)[0] + ",-1"
    path.write_text(newline.join(lines) + newline * last, encoding="utf-8", newline="")
    refused(path, 600, "close", "-1.0 is not")


def test_a_comma_too_many_is_refused_instead_of_moving_values(tmp_path: Path) -> None:
    """An unquoted 1,234.50 would otherwise be a price of 1."""
    path = panel().write(tmp_path / "prices.csv")
    text = path.read_text(encoding="utf-8").splitlines()
    path.write_text("\n".join([*text[:51], text[51] + ",9", *text[52:]]), encoding="utf-8")
    refused(path, 51, None, "the row has more values than the header's 3 columns")
    path.write_text("\n".join([*text[:51], text[51].rsplit(",", 1)[0], *text[52:]]), encoding="utf-8")
    refused(path, 51, "close", "the value is missing")


def test_csv_columns_are_told_apart_by_case_and_not_named_twice(tmp_path: Path) -> None:
    sheet = panel()
    sheet.header.append("Close")
    for row in sheet.rows:
        row.append(-1)
    assert load_market(sheet.write(tmp_path / "prices.csv")).spec.tick_size == 0.01
    sheet.header[-1] = "close"
    refused(sheet.write(tmp_path / "prices.csv"), None, "close", "two columns have this name")


def test_a_csv_with_a_byte_order_mark_is_read_and_one_of_another_encoding_refused(tmp_path: Path) -> None:
    path = panel().write(tmp_path / "prices.csv")
    text = path.read_text(encoding="utf-8").replace("AAA", "Ä")
    path.write_text(text, encoding="utf-8-sig")
    assert load_market(path).spec.symbols == ("BBB", "CCC", "Ä")
    path.write_text(text, encoding="latin-1")
    refused(path, None, None, "cannot be read", "UTF-8")
