from orchestra_ray.workers.tools.runtime.circuit_breaker import CircuitBreaker


def opened() -> CircuitBreaker:
    breaker = CircuitBreaker(failures_to_open=3, rest_s=10)
    for now_s in range(3):
        assert breaker.admits(now_s)
        breaker.failed(now_s)
    return breaker


def test_it_opens_after_failures_in_a_row_and_probes_once_after_a_rest() -> None:
    breaker = opened()
    assert not breaker.admits(11.9)
    assert breaker.admits(12)
    assert not breaker.admits(12)
    breaker.succeeded()
    assert breaker.admits(12) and breaker.failures == 0


def test_a_failed_probe_opens_it_again_and_a_given_up_one_lets_another_probe() -> None:
    breaker = opened()
    assert breaker.admits(12)
    breaker.failed(12)
    assert not breaker.admits(21) and breaker.admits(22)
    breaker.undecided()
    assert breaker.admits(22)


def test_a_success_between_failures_keeps_it_closed() -> None:
    breaker = CircuitBreaker(failures_to_open=2)
    for now_s in range(10):
        breaker.failed(now_s)
        breaker.succeeded()
        assert breaker.admits(now_s)
