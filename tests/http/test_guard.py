"""Who may ask, over real sockets and, where a name has to be forged, real headers."""

from __future__ import annotations

from typing import Any

import httpx2
import pytest

from greenroom.runtime.http import ApiOptions

from .conftest import open_house

START = "/v1/workflows/idle/runs"
TOKEN = "correct-horse-battery-staple"


@pytest.mark.parametrize("host", ["localhost:1", "127.0.0.1", "[::1]:80", "LOCALHOST"])
async def test_loopback_names_are_served(house: Any, host: str) -> None:
    assert (await house.client.get("/v1/runs", headers={"host": host})).status_code == 200


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "evil.example:80", "localhost.evil:1"])
async def test_a_rebound_name_is_not_served_on_loopback(house: Any, host: str) -> None:
    """A page of evil.example that resolves its own name to 127.0.0.1 gets nothing."""
    response = await house.client.get("/v1/runs", headers={"host": host})
    assert (response.status_code, response.json()["type"]) == (421, "urn:greenroom:problem:misdirected")


async def test_a_name_can_be_allowed(anyio_backend: Any) -> None:
    async with open_house(ApiOptions(hosts=("api.example",))) as house:
        assert (await house.client.get("/livez", headers={"host": "api.example:8800"})).status_code == 200
        assert (await house.client.get("/livez")).status_code == 421
    async with open_house(ApiOptions(hosts=None)) as house:
        assert (await house.client.get("/livez", headers={"host": "any"})).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:1"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ],
)
async def test_another_site_may_not_change_anything(house: Any, headers: dict[str, str]) -> None:
    response = await house.client.post(START, headers=headers)
    assert (response.status_code, response.json()["type"]) == (403, "urn:greenroom:problem:cross-site")
    assert (await house.client.get("/v1/runs", headers=headers)).json()["data"] == []


async def test_the_own_origin_and_allowed_ones_may(anyio_backend: Any) -> None:
    async with open_house(ApiOptions(origins=("https://app.example",))) as house:
        for headers in (
            {"origin": house.url, "sec-fetch-site": "same-origin"},
            {"origin": "https://app.example", "sec-fetch-site": "cross-site"},
            {"sec-fetch-site": "none"},
            {},
        ):
            assert (await house.client.post(START, headers=headers)).status_code == 202


async def test_with_a_token_nothing_is_told_without_it(anyio_backend: Any) -> None:
    """But for the health checks. A run's id that looks like one opens nothing."""
    async with open_house(ApiOptions(token=TOKEN)) as house:
        for headers in (
            {},
            {"authorization": "Bearer wrong"},
            {"authorization": f"Basic {TOKEN}"},
            {"authorization": "Bearer"},
        ):
            for path in ("/v1/runs", "/v1/workflows", "/openapi.json", "/v1/runs/livez", "/nothing"):
                response = await house.client.get(path, headers=headers)
                assert (response.status_code, response.json()["type"]) == (401, "urn:greenroom:problem:unauthorized")
                assert response.headers["www-authenticate"].startswith("Bearer")
                assert TOKEN not in response.text
            assert (await house.client.post(START, headers=headers)).status_code == 401
        assert (await house.client.get("/livez")).status_code == 200
        assert (await house.client.get("/readyz")).status_code == 200
        good = {"authorization": f"bearer {TOKEN}"}
        assert (await house.client.post(START, headers=good)).status_code == 202
        assert (await house.client.get("/openapi.json", headers=good)).json()["security"] == [{"token": []}]


async def test_every_response_forbids_sniffing_framing_and_scripts(house: Any) -> None:
    run = (await house.client.post(START)).json()["id"]
    responses: list[httpx2.Response] = [
        await house.client.get("/v1/runs"),
        await house.client.get("/nothing"),
        await house.client.get(f"/v1/runs/{run}/output", headers={"accept": "text/plain"}),
        await house.client.head(f"/v1/runs/{run}/events"),
    ]
    for response in responses:
        assert response.headers["x-content-type-options"] == "nosniff"
        assert response.headers["content-security-policy"].startswith("default-src 'none'")
