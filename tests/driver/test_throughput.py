import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra_ray.driver.throughput import Throughput


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def test_overlapping_groups_count_their_seconds_once() -> None:
    clock = Clock()
    throughput = Throughput(clock)
    throughput.begin()
    clock.now_s = 1.0
    throughput.begin()
    clock.now_s = 3.0
    throughput.end(tokens=90, trajectories=2)
    clock.now_s = 4.0
    throughput.end(tokens=30, trajectories=1)
    clock.now_s = 100.0  # training, with nothing in flight
    assert throughput.take() == {"tokens_per_s": 30.0, "trajectories_per_s": 0.75}


def test_groups_that_were_there_already_make_no_rate_of_their_own() -> None:
    """Generation runs ahead: the step does not wait, and the rate is the engine's."""
    clock = Clock()
    throughput = Throughput(clock)
    for _ in range(2):
        throughput.begin()
    clock.now_s = 10.0
    for _ in range(2):
        throughput.end(tokens=1_000, trajectories=8)
    assert throughput.take()["tokens_per_s"] == 200.0
    assert throughput.take() == {}


@given(st.lists(st.tuples(st.floats(0, 10), st.floats(0.1, 10), st.booleans()), max_size=30))
def test_pauses_and_the_places_of_the_takes_do_not_move_the_rate(
    groups: list[tuple[float, float, bool]],
) -> None:
    clock = Clock()
    throughput = Throughput(clock)
    for pause_s, open_s, take in [*groups, (0.0, 1.0, True)]:
        clock.now_s += pause_s
        throughput.begin()
        clock.now_s += open_s
        throughput.end(tokens=round(open_s * 1_000), trajectories=1)
        if take:
            assert throughput.take()["tokens_per_s"] == pytest.approx(1_000, rel=0.01)
