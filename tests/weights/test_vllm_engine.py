import pytest
from vllm.distributed.weight_transfer.factory import WeightTransferEngineFactory

from orchestra_ray.weights.vllm_engine import BACKEND, ObjectStoreWeightTransferEngine, register


def test_registering_again_in_a_process_changes_nothing() -> None:
    register()
    register()
    loader = WeightTransferEngineFactory._registry[BACKEND]
    assert loader() is ObjectStoreWeightTransferEngine


def test_another_process_has_the_backend_as_a_vllm_plugin() -> None:
    from importlib.metadata import entry_points

    (plugin,) = (p for p in entry_points(group="vllm.general_plugins") if p.name == "orchestra_ray")
    assert plugin.load() is register


@pytest.mark.parametrize("missing", ["version", "deadline_s"])
def test_an_update_without_its_version_or_deadline_is_refused(missing: str) -> None:
    info = {"version": 1, "deadline_s": 1.0}
    del info[missing]
    engine = object.__new__(ObjectStoreWeightTransferEngine)
    with pytest.raises(ValueError, match=missing):
        engine.parse_update_info(info)
