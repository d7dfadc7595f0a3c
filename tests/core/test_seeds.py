import subprocess
import sys

from orchestra_ray.core.seeds import derive_seed


def test_a_seed_is_the_same_in_another_process() -> None:
    code = "from orchestra_ray.core.seeds import derive_seed; print(derive_seed(7, 'a', 2))"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(other.stdout) == derive_seed(7, "a", 2)


def test_parts_do_not_run_together() -> None:
    assert derive_seed("ab", "c") != derive_seed("a", "bc")
