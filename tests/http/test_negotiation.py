"""What headers and parameters mean, without a server."""

from __future__ import annotations

import pytest
from starlette.requests import Request

from greenroom.runtime.cursor import Cursor
from greenroom.runtime.http.negotiation import Preferences, choose, cursor, preferences, traceparent, unchanged
from greenroom.runtime.http.problems import Refusal

OFFERS = ("text/event-stream", "application/json")


def request(query: str = "", **headers: str) -> Request:
    raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return Request({"type": "http", "method": "GET", "query_string": query.encode(), "headers": raw})


@pytest.mark.parametrize(
    ("accept", "chosen"),
    [
        ("", "text/event-stream"),
        ("*/*", "text/event-stream"),
        ("application/json", "application/json"),
        ("Application/JSON; q=0.5, text/event-stream;q=0.4", "application/json"),
        ("application/*", "application/json"),
        ("text/html, */*;q=0.1", "text/event-stream"),
        ("text/event-stream;q=0, */*", "application/json"),
    ],
)
def test_accept_chooses(accept: str, chosen: str) -> None:
    assert choose(request(accept=accept), OFFERS) == chosen


@pytest.mark.parametrize("accept", ["text/html", "text/event-stream;q=0", "application/json;q=x", "*/*;q=0"])
def test_nothing_acceptable_is_refused(accept: str) -> None:
    with pytest.raises(Refusal, match="accept one of"):
        choose(request(accept=accept), OFFERS)


@pytest.mark.parametrize(
    ("prefer", "wish"),
    [
        ("wait=5", Preferences(5.0, "wait=5")),
        ('respond-async, wait="5"; x=y', Preferences(5.0, "wait=5")),
        ("wait=9000", Preferences(60.0, "wait=60")),
        ("respond-async", Preferences(0.0, "respond-async")),
        ("wait=soon, handling=lenient", Preferences()),
        ("wait=-1", Preferences()),
        ("", Preferences()),
    ],
)
def test_preferences_are_read_and_what_is_unknown_ignored(prefer: str, wish: Preferences) -> None:
    assert preferences(request(prefer=prefer), 60.0) == wish


def test_a_cursor_comes_from_the_header_else_the_parameter() -> None:
    assert cursor(request()) == Cursor(0)
    assert cursor(request("after=3")) == Cursor(3)
    assert cursor(request("after=3", last_event_id="5")) == Cursor(5)
    assert cursor(request("after=3", last_event_id="")) == Cursor(3)
    assert cursor(request("after=3-5f3a91c2")) == Cursor(3, "5f3a91c2")
    assert cursor(request(last_event_id="5-5f3a91c2")) == Cursor(5, "5f3a91c2")


@pytest.mark.parametrize(
    "header",
    [
        "",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
        "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
        "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
    ],
)
def test_a_traceparent_that_is_not_valid_is_ignored(header: str) -> None:
    assert traceparent(request(traceparent=header)) == ""


def test_a_known_version_is_recognized() -> None:
    assert unchanged(request(if_none_match='"1-queued", W/"2-running"'), '"2-running"')
    assert unchanged(request(if_none_match="*"), '"2-running"')
    assert not unchanged(request(if_none_match='"1-queued"'), '"2-running"')
    assert not unchanged(request(), '"2-running"')
