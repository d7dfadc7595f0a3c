"""An incarnation of an executor is ended once, and only while it is current."""

from hypothesis import given
from hypothesis import strategies as st

from orchestra_ray.spend.incarnations import Incarnations


@given(st.lists(st.tuples(st.sampled_from(["begin", "end"]), st.integers(0, 3))))
def test_an_incarnation_is_ended_once_and_only_while_it_is_current(
    events: list[tuple[str, int]],
) -> None:
    incarnations, ended, current = Incarnations(), set(), None
    for event, incarnation in events:
        if event == "begin":
            current, ended = incarnation, ended - {incarnation}
            incarnations.begin("x", f"{incarnation}")
        elif incarnations.end("x", f"{incarnation}"):
            assert incarnation not in ended and current in (incarnation, None)
            current = incarnation
            ended.add(incarnation)
        else:
            assert incarnation in ended or current != incarnation


def test_each_executor_has_incarnations_of_its_own() -> None:
    incarnations = Incarnations()
    assert incarnations.end("x", "1") and incarnations.end("y", "1")
    assert not incarnations.end("x", "1") and not incarnations.end("x", "2")
    incarnations.begin("x", "2")
    assert not incarnations.end("x", "1") and incarnations.end("x", "2")
