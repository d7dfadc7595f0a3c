from orchestra_ray.core.faults import FailureKind
from orchestra_ray.core.states import Ended


def test_every_kind_of_failure_has_an_end_of_its_own() -> None:
    ends = [Ended.failed(kind) for kind in FailureKind]
    assert len(set(ends)) == len(FailureKind)
    assert all(end.value.startswith("failed_") for end in ends)
