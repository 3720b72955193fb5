"""The WebSocket API without a socket: what is signed, what is refused and with which code, Binance's shapes."""

from __future__ import annotations

import hashlib
import hmac
import json
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given

from core.orders.scale import MarketScale
from core.venue.api import ApiSession, SpotApi
from core.venue.credentials import (
    Credentials,
    CredentialsError,
    is_signed,
    load_credentials,
    load_or_create_credentials,
    signature,
)
from core.venue.exchange import Exchange
from core.venue.settings import ExchangeSettings

NOW = 1_700_000_000_000
KEYS = Credentials("key", "secret")
SCALE = MarketScale.of(["AAA", "BBB"], "0.01", "0.001")


def api() -> SpotApi:
    exchange = Exchange(SCALE, ExchangeSettings())
    exchange.open_account(1, 10**12, NOW)
    exchange.advance(0, [10_000, 20_000], NOW)

    def advance_to(step: int) -> int:
        if step > 100:
            raise ValueError("the recording ends at step 100")
        exchange.advance(step, [10_000 + step, 20_000], NOW)
        return exchange.step

    return SpotApi(exchange, {"key": (KEYS, 1)}, ["modelled liquidity"], advance_to)


def signed(**params: Any) -> dict[str, Any]:
    full = {"apiKey": "key", "timestamp": NOW} | params
    return full | {"signature": signature("secret", full)}


def call(spot: SpotApi, method: str, params: Any = None, session: ApiSession | None = None) -> dict[str, Any]:
    request = {"id": 7, "method": method} | ({} if params is None else {"params": params})
    answer: dict[str, Any] = json.loads(spot.handle(json.dumps(request).encode(), session or ApiSession(), NOW))
    assert answer["id"] == 7
    return answer


def limit(name: str = "a", **changes: Any) -> dict[str, Any]:
    terms = {
        "symbol": "AAA",
        "side": "BUY",
        "type": "LIMIT",
        "timeInForce": "IOC",
        "price": "101.00",
        "quantity": "0.500",
        "newClientOrderId": name,
    }
    return signed(**{k: v for k, v in (terms | changes).items() if v is not None})


def test_signature_is_binance_s_own_example_shape() -> None:
    # Sorted by name, name=value joined by &, HMAC-SHA256 as hex; checked against Python's hmac by hand.
    params = {"symbol": "BTCUSDT", "apiKey": "k", "timestamp": 1, "flag": True, "signature": "ignored"}
    text = b"apiKey=k&flag=true&symbol=BTCUSDT&timestamp=1"
    assert signature("s", params) == hmac.new(b"s", text, hashlib.sha256).hexdigest()
    assert not is_signed("s", params | {"signature": "ünicode"})


def test_an_order_in_binance_s_words() -> None:
    answer = call(api(), "order.place", limit())
    assert answer["status"] == 200
    result = answer["result"]
    assert {k: result[k] for k in ("symbol", "status", "side", "type", "timeInForce", "clientOrderId")} == {
        "symbol": "AAA",
        "status": "FILLED",
        "side": "BUY",
        "type": "LIMIT",
        "timeInForce": "IOC",
        "clientOrderId": "a",
    }
    assert (result["origQty"], result["executedQty"]) == ("0.500", "0.500")
    (fill,) = result["fills"]
    assert (fill["price"], fill["qty"], fill["commissionAsset"]) == ("100.01", "0.500", "USD")
    assert fill["commission"] == "0.05001"  # 0.1 % of 50.005, in quanta of 0.00001, half up


def test_a_repeated_order_is_marked_and_other_terms_are_refused() -> None:
    spot = api()
    first = call(spot, "order.place", limit())["result"]
    again = call(spot, "order.place", limit())["result"]
    assert again.pop("duplicate") is True
    assert again == first
    error = call(spot, "order.place", limit(quantity="0.501"))["error"]
    assert error == {"code": -2010, "msg": "Duplicate order sent."}


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"symbol": "ZZZ"}, -1121),
        ({"symbol": None}, -1102),
        ({"side": "HOLD"}, -1117),
        ({"type": "STOP"}, -1116),
        ({"timeInForce": "GTX"}, -1115),
        ({"timeInForce": None}, -1102),
        ({"price": "101.001"}, -1013),
        ({"price": "0"}, -1013),
        ({"price": None}, -1102),
        ({"price": "1e2"}, -1100),
        ({"price": "-5"}, -1100),
        ({"price": "9" * 50}, -1100),
        ({"price": 101}, -1102),
        ({"quantity": "0.0001"}, -1013),
        ({"quantity": "0"}, -1013),
        ({"quantity": "NaN"}, -1100),
        ({"quantity": None}, -1102),
        ({"newClientOrderId": "no spaces"}, -1100),
        ({"newClientOrderId": "x" * 37}, -1100),
        ({"newOrderRespType": "SOME"}, -1100),
        ({"type": "LIMIT_MAKER", "timeInForce": None}, -2010),
    ],
)
def test_bad_orders_are_refused_by_code(changes: dict[str, Any], code: int) -> None:
    spot = api()
    answer = call(spot, "order.place", limit(**changes))
    assert (answer["status"], answer["error"]["code"]) == (400, code)
    assert spot.exchange.open_orders(1) == []


@pytest.mark.parametrize(
    ("skew_ms", "window", "code"),
    [(0, 5_000, None), (-5_000, 5_000, None), (-5_001, 5_000, -1021), (1_000, 5_000, None), (1_001, 5_000, -1021),
     (-11, 10, -1021), (0, 0, -1131), (0, 60_001, -1131)],
)  # fmt: skip
def test_the_clock_must_be_within_the_window(skew_ms: int, window: int, code: int | None) -> None:
    answer = call(api(), "account.status", signed(timestamp=NOW + skew_ms, recvWindow=window))
    assert answer.get("error", {}).get("code") == code


def test_signature_and_key_are_checked_before_anything_happens() -> None:
    spot = api()
    changed = limit() | {"quantity": "5.000"}
    assert call(spot, "order.place", changed)["error"]["code"] == -1022
    unsigned = {k: v for k, v in limit().items() if k != "signature"}
    assert call(spot, "order.place", unsigned)["error"]["code"] == -1022
    stranger = limit() | {"apiKey": "other"}
    assert call(spot, "order.place", stranger)["error"]["code"] == -2015
    assert call(spot, "order.place", {})["error"]["code"] == -1102
    session = ApiSession()
    assert call(spot, "userDataStream.subscribe", {"apiKey": "key", "timestamp": NOW}, session)["status"] == 400
    assert session.subscribed is None
    assert spot.exchange.take_happened()[2:] == []


def test_queries_and_cancel() -> None:
    spot = api()
    call(spot, "order.place", limit("rest", price="90.00", timeInForce="GTC"))
    call(spot, "order.place", limit("done"))
    by_name = signed(symbol="AAA", origClientOrderId="rest")
    status = call(spot, "order.status", by_name)["result"]
    assert (status["status"], status["isWorking"]) == ("NEW", True)
    assert [o["clientOrderId"] for o in call(spot, "openOrders.status", signed())["result"]] == ["rest"]
    assert call(spot, "openOrders.status", signed(symbol="BBB"))["result"] == []
    balances = {b["asset"]: b for b in call(spot, "account.status", signed())["result"]["balances"]}
    assert balances["AAA"] == {"asset": "AAA", "free": "0.500", "locked": "0.000"}
    assert balances["USD"]["locked"] == "45.04500"
    cancelled = call(spot, "order.cancel", by_name)["result"]
    assert (cancelled["status"], cancelled["origClientOrderId"]) == ("CANCELED", "rest")
    assert call(spot, "order.cancel", by_name)["error"]["code"] == -2011
    assert call(spot, "order.status", signed(symbol="AAA", origClientOrderId="nobody"))["error"]["code"] == -2013
    (trade,) = call(spot, "myTrades", signed(symbol="AAA"))["result"]
    assert (trade["qty"], trade["isBuyer"], trade["isMaker"]) == ("0.500", True, False)
    assert call(spot, "myTrades", signed(symbol="AAA", fromId=trade["id"] + 1))["result"] == []
    assert call(spot, "myTrades", signed(symbol="AAA", orderId=trade["orderId"]))["result"] == [trade]


def test_public_requests() -> None:
    spot = api()
    assert call(spot, "ping")["result"] == {}
    assert call(spot, "time")["result"] == {"serverTime": NOW}
    info = call(spot, "exchangeInfo")["result"]
    assert [s["symbol"] for s in info["symbols"]] == ["AAA", "BBB"]
    assert info["captions"] == ["modelled liquidity"]
    depth = call(spot, "depth", {"symbol": "AAA", "limit": 1})["result"]
    assert (depth["bids"][0][0], depth["asks"][0][0]) == ("99.99", "100.01")


def test_replay_advance_moves_the_price_only_where_there_is_a_replay() -> None:
    spot = api()
    assert call(spot, "replay.advance", signed(step=9))["result"] == {"step": 9}
    assert call(spot, "replay.advance", signed(step=3))["result"] == {"step": 9}
    assert spot.exchange.closes == (10_009, 20_000)
    refused = call(spot, "replay.advance", signed(step=101))["error"]
    assert "recording ends" in refused["msg"]
    for step in (-1, 1 << 60):
        assert call(spot, "replay.advance", signed(step=step))["error"]["code"] == -1100
    live = SpotApi(spot.exchange, {"key": (KEYS, 1)})
    assert call(live, "replay.advance", signed(step=10))["error"]["code"] == -1020


@pytest.mark.parametrize(
    "text",
    [b"", b"nonsense", b"[]", b"5", b"\xff\xfe", b'{"id":[1],"method":"time"}', b'{"id":1}', b'{"id":1,"method":5}',
     b'{"id":1,"method":"time","params":[]}', b'{"id":1,"method":["time"]}', b"[" * 100_000],
)  # fmt: skip
def test_garbage_gets_an_error_and_no_exception(text: bytes) -> None:
    answer = json.loads(api().handle(text, ApiSession(), NOW))
    assert answer["status"] == 400
    assert answer["error"]["code"] < 0


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text("a1.-", max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("a1.-", max_size=5), inner, max_size=3),
    max_leaves=5,
)
FIELDS = ["symbol", "side", "type", "timeInForce", "price", "quantity", "newClientOrderId", "orderId", "limit", "step"]
METHODS = ["order.place", "order.cancel", "order.status", "myTrades", "depth", "replay.advance", "account.status", "x"]


@given(st.sampled_from(METHODS), st.dictionaries(st.sampled_from(FIELDS), JSON))
def test_any_signed_parameters_get_an_answer(method: str, params: dict[str, Any]) -> None:
    base = {"symbol": "AAA", "origClientOrderId": "q"}
    answer = call(api(), method, signed(**(base | params)))
    assert answer["status"] in (200, 400)


def test_keys_are_made_once_and_only_the_owner_may_read_them(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "venue.json"
    made = load_or_create_credentials(path)
    assert load_or_create_credentials(path) == load_credentials(path) == made
    assert path.stat().st_mode & 0o777 == 0o600
    assert made.secret not in repr(made)
    assert list(path.parent.iterdir()) == [path]
    path.chmod(0o644)
    with pytest.raises(CredentialsError, match="chmod 600"):
        load_credentials(path)
    with pytest.raises(CredentialsError, match="does not exist"):
        load_credentials(tmp_path / "none.json")
    path.chmod(0o600)
    path.write_text("{}")
    with pytest.raises(CredentialsError, match="holds no"):
        load_credentials(path)


def test_an_order_is_amended_to_less_and_never_to_more() -> None:
    spot = api()
    placed = call(spot, "order.place", limit("a", timeInForce="GTC", price="99.00"))["result"]
    less = signed(symbol="AAA", origClientOrderId="a", newClientOrderId="b", newQty="0.200")
    amended = call(spot, "order.amend.keepPriority", less)["result"]["amendedOrder"]
    assert (amended["orderId"], amended["clientOrderId"], amended["origQty"]) == (placed["orderId"], "b", "0.200")
    more = signed(symbol="AAA", orderId=placed["orderId"], newQty="0.300")
    assert call(spot, "order.amend.keepPriority", more)["error"]["code"] == -2038
    bad = signed(symbol="AAA", orderId=placed["orderId"], newQty="0.100", newClientOrderId="no spaces")
    assert call(spot, "order.amend.keepPriority", bad)["error"]["code"] == -1100
