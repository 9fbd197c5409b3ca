"""The folds over a log: identity, journal, output."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from greenroom.runtime import records as r
from greenroom.runtime.log import Journal, Output, fold_output, identify, identify_by_key, recorded_twice
from greenroom.runtime.records import Event, Record


def log_of(*records: Record) -> list[Event]:
    return [Event(seq, float(seq), record) for seq, record in enumerate(records, 1)]


def journal_of(*records: Record) -> Journal:
    journal = Journal()
    for event in log_of(*records):
        journal.apply(event)
    return journal


def started(step: str, attempt: int = 1, scope: str = "") -> r.StepStarted:
    return r.StepStarted(step=step, name=step, attempt=attempt, scope=scope)


def completed(step: str, result: bytes = b"1", attempt: int = 1) -> r.StepCompleted:
    return r.StepCompleted(step=step, attempt=attempt, result=msgspec.Raw(result))


BOOM = r.Failure(type="ValueError", message="boom")


@given(st.lists(st.tuples(st.text(), st.text(), st.binary(), st.integers(1, 3)), unique=True))
def test_different_calls_have_different_identities(calls: list[tuple[str, str, bytes, int]]) -> None:
    identities = {identify(scope, name, data, nth) for scope, name, data, nth in calls}
    assert len(identities) == len(calls)


def test_an_identity_does_not_depend_on_how_its_parts_are_cut() -> None:
    assert identify("ab", "c", b"", 1) != identify("a", "bc", b"", 1)
    assert identify_by_key("", "a", "x") != identify("", "a", b"x", 1)


def test_a_recorded_result_answers_and_an_unrecorded_does_not() -> None:
    journal = journal_of(started("a"), completed("a", b'"x"'), started("b"))
    assert journal.answer("a") == msgspec.Raw(b'"x"')
    assert journal.answer("b") is None


def test_the_first_result_stands_even_if_a_second_is_in_the_log() -> None:
    journal = journal_of(started("a"), completed("a", b"1"), completed("a", b"2"))
    assert journal.answer("a") == msgspec.Raw(b"1")


def test_a_failure_the_body_saw_is_remembered_and_one_inside_a_step_is_not() -> None:
    journal = journal_of(
        started("outer"),
        started("inner", scope="outer"),
        r.StepFailed(step="inner", attempt=1, error=BOOM),
        started("top"),
        r.StepFailed(step="top", attempt=1, error=BOOM),
    )
    assert set(journal.failures) == {"top"}


def test_retries_count_against_the_budget_of_the_body_only() -> None:
    retrying = [r.StepRetrying(step=s, attempt=1, error=BOOM, delay_s=1.0) for s in ("top", "inner")]
    journal = journal_of(started("top"), started("outer"), started("inner", scope="outer"), *retrying)
    assert journal.failed_attempts == {"top": 1}


def test_results_inside_a_completed_step_are_forgotten_at_every_depth() -> None:
    journal = journal_of(
        started("a"),
        started("b", scope="a"),
        started("c", scope="b"),
        completed("c"),
        completed("a"),
    )
    assert set(journal.results) == {"a"}


def test_results_inside_an_unfinished_step_answer() -> None:
    journal = journal_of(started("a"), started("b", scope="a"), completed("b", b"7"))
    assert journal.answer("b") == msgspec.Raw(b"7")


def test_recorded_steps_that_nobody_asked_for_are_known() -> None:
    journal = journal_of(started("old"), completed("old"), started("kept"), completed("kept"))
    journal.answer("kept")
    assert list(journal.unasked) == ["old"]


def test_a_lease_after_an_unfinished_lease_is_a_lost_worker_and_after_a_hand_over_is_not() -> None:
    def lease(fence: int) -> r.LeaseTaken:
        return r.LeaseTaken(worker="w", build="b", fence=fence)

    journal = journal_of(lease(1), lease(2), r.RunHandedOver(worker="w"), lease(3))
    assert journal.lost_leases == 1
    assert journal.leased


def test_what_a_dead_attempt_showed_is_known_until_it_is_taken_back() -> None:
    shown = r.OutputDelta(step="a", attempt=1, text="x")
    assert journal_of(started("a"), shown).shown == {"a": 1}
    assert journal_of(started("a"), shown, r.OutputReset(step="a", attempt=1)).shown == {}


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 3), st.text(max_size=3)), max_size=30), st.data())
def test_output_is_the_text_of_the_attempts_that_were_not_taken_back(
    deltas: list[tuple[str, int, str]], data: st.DataObject
) -> None:
    records: list[Record] = [r.OutputDelta(step=s, attempt=n, text=t) for s, n, t in deltas]
    resets = data.draw(st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 3)), max_size=3))
    records += [r.OutputReset(step=s, attempt=n) for s, n in resets]
    gone = {(s, n) for s, top in resets for n in range(1, top + 1)}
    assert fold_output(log_of(*records)) == "".join(t for s, n, t in deltas if (s, n) not in gone)


def test_a_reset_does_not_touch_what_comes_after_it() -> None:
    output = Output()
    for event in log_of(
        r.OutputDelta(step="a", attempt=1, text="half a sen"),
        r.OutputReset(step="a", attempt=1),
        r.OutputDelta(step="a", attempt=2, text="a sentence."),
    ):
        output.apply(event)
    assert output.text == "a sentence."


def test_a_second_result_of_a_step_is_found() -> None:
    assert recorded_twice(log_of(completed("a"), completed("b"), completed("a"))) == ["a"]
