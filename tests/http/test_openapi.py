"""The OpenAPI document: it resolves, it covers every route, and it is typed by the workflows."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import msgspec
import pydantic
from starlette.routing import Route

from greenroom import workflow
from greenroom.runtime.http import api
from greenroom.runtime.http.openapi import describe, document
from greenroom.runtime.runs import Runs
from greenroom.transports import open_transport

from .conftest import idle, newsroom

METHODS = {"get", "post"}


class Draft(pydantic.BaseModel):
    """A pydantic model with a model inside."""

    class Note(pydantic.BaseModel):
        text: str

    notes: list[Note]


@workflow(name="draft.v2")
async def draft(start: Draft, strict: bool = False) -> list[Draft]:
    """Draft."""
    return [start]


WORKFLOWS = {w.name: w for w in (newsroom, idle, draft)}


def walk(node: Any) -> Iterator[dict[str, Any]]:
    if isinstance(node, dict):
        yield node
        for value in node.values():
            yield from walk(value)
    elif isinstance(node, list):
        for value in node:
            yield from walk(value)


def resolve(whole: dict[str, Any], reference: str) -> Any:
    node: Any = whole
    for part in reference.removeprefix("#/").split("/"):
        node = node[part]
    return node


def test_every_reference_resolves() -> None:
    whole = document("", WORKFLOWS)
    references = [node["$ref"] for node in walk(whole) if isinstance(node.get("$ref"), str)]
    assert len(references) > 30
    for reference in references:
        assert resolve(whole, reference) is not None


def test_the_structure_is_that_of_openapi_3_1() -> None:
    whole = document("/greenroom", WORKFLOWS)
    assert whole["openapi"].startswith("3.1.")
    assert {"title", "version"} <= whole["info"].keys()
    assert whole["servers"] == [{"url": "/greenroom"}]
    assert all(re.fullmatch(r"[a-zA-Z0-9._-]+", name) for name in whole["components"]["schemas"])
    operations = []
    for path, item in whole["paths"].items():
        assert path.startswith("/")
        assert item.keys() <= METHODS | {"parameters"}
        declared = {p["name"] for p in item.get("parameters", ()) if p["in"] == "path" and p["required"]}
        assert declared == set(re.findall(r"{(\w+)}", path))
        for operation in (item[method] for method in METHODS & item.keys()):
            operations.append(operation["operationId"])
            for parameter in operation.get("parameters", ()):
                assert {"name", "in", "schema"} <= parameter.keys()
            for status, response in operation["responses"].items():
                assert re.fullmatch(r"[2-5]\d\d", status)
                assert response["description"]
                for media in response.get("content", {}).values():
                    assert "schema" in media
    assert len(operations) == len(set(operations))


async def test_every_route_is_described_and_nothing_else() -> None:
    async with open_transport("memory://") as store:
        app = api(Runs(store, WORKFLOWS))
    served = set()
    for route in app.routes:
        assert isinstance(route, Route)
        assert route.methods is not None
        if not route.include_in_schema:
            assert re.match(r"/(dashboard(/|$)|$)", route.path), "the dashboard alone is no part of the API"
            continue
        names = [w.name for w in WORKFLOWS.values()] if "/workflows/{workflow}" in route.path else ["{workflow}"]
        for name in names:
            path = route.path.replace("{workflow}", name)
            served |= {(path, method.lower()) for method in route.methods - {"HEAD"}}
    described = {
        (path, method) for path, item in document("", WORKFLOWS)["paths"].items() for method in METHODS & item.keys()
    }
    assert served == described


def test_a_client_made_from_it_is_typed_per_workflow() -> None:
    whole = document("", WORKFLOWS)
    start = whole["paths"]["/v1/workflows/newsroom/runs"]["post"]
    body = resolve(whole, start["requestBody"]["content"]["application/json"]["schema"]["$ref"])
    argument = resolve(whole, body["properties"]["input"]["$ref"])
    assert argument["properties"]["topic"] == {"type": "string"}
    assert argument["required"] == ["topic"]
    assert body["required"] == ["input"]
    assert body["examples"] == [{"input": {"topic": "text"}}]
    run = resolve(whole, start["responses"]["202"]["content"]["application/json"]["schema"]["$ref"])
    result = resolve(whole, run["allOf"][1]["properties"]["result"]["$ref"])
    assert result["properties"].keys() == {"title", "words"}
    assert not resolve(whole, "#/components/schemas/idle.start").get("required")


def test_pydantic_models_keep_their_schemas() -> None:
    whole = document("", WORKFLOWS)
    argument = resolve(whole, "#/components/schemas/draft.v2.input")
    text = whole["components"]["schemas"]
    assert any("notes" in str(schema.get("properties", "")) for schema in (argument, *text.values()))
    assert text["Note"]["properties"]["text"]["type"] == "string"


def test_a_workflow_is_described_with_schemas_that_stand_alone() -> None:
    for one in WORKFLOWS.values():
        described = describe("/greenroom", one)
        assert described["links"]["start"] == f"/greenroom/v1/workflows/{one.name}/runs"
        for part in ("input", "result"):
            for node in walk(described[part]):
                if isinstance(node.get("$ref"), str):
                    assert resolve(described[part], node["$ref"]) is not None


async def test_it_is_served(house: Any) -> None:
    served = (await house.client.get("/openapi.json")).json()
    assert served == msgspec.json.decode(msgspec.json.encode(document("", house.runs.workflows)))
    listed = (await house.client.get("/v1/workflows")).json()["data"]
    assert [(w["name"], w["summary"]) for w in listed] == [
        ("newsroom", "Write an article about a topic."),
        ("idle", "Do nothing."),
    ]
