"""Fault rules: what they say, and that every mistake names the part and the fix (law 9)."""

from __future__ import annotations

import pytest

from greenroom.runtime.simulator import Fault, FaultKind, PlanInvalid, ProviderPlan, Simulator


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("openai:503", Fault(provider="openai", kind=FaultKind.ERROR, status=503)),
        ("*:cut:times=1:after=0", Fault(kind=FaultKind.CUT, times=1, after=0)),
        (
            "gemini:rate_limit:share=0.2:from=2:until=5:model=m",
            Fault(provider="gemini", model="m", kind=FaultKind.RATE_LIMIT, share=0.2, from_s=2, until_s=5),
        ),
        (":error:status=500", Fault(status=500)),
    ],
)
def test_a_rule_is_read(text: str, fault: Fault) -> None:
    assert Fault.parse(text) == fault


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("openai", "'' is no kind: give a status"),
        ("openai:boom", "'boom' is no kind: give a status .400-599. or rate_limit"),
        ("openai:200", "'200' is no kind"),
        ("openai:503:often=1", "'often' is no option: give model, share"),
        ("openai:503:share=much", "share='much': give a float"),
        ("openai:503:times=0", "times makes no sense: give 1 or more"),
        ("openai:503:share=2", "share makes no sense: give a part from 0 to 1"),
        ("openai:503:from=5:until=2", "from makes no sense"),
        ("openai:error:status=200", "status makes no sense: give 400 to 599"),
    ],
)
def test_a_mistake_is_one_sentence(text: str, says: str) -> None:
    with pytest.raises(PlanInvalid, match=says) as caught:
        Fault.parse(text)
    assert "\n" not in str(caught.value)


def test_two_plans_of_one_name_are_refused() -> None:
    plan = ProviderPlan(name="openai", models=("*",))
    with pytest.raises(PlanInvalid, match="two plans have one name"):
        Simulator([plan, plan])
