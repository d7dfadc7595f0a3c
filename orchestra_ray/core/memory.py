"""Peak memory of processes, as Linux counts it."""

from pathlib import Path

MIB_IN_KIB = 1024


def peak_mib(pid: int | str = "self") -> float:
    """The largest resident set that the process has had; 0 where it is gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except FileNotFoundError:
        return 0.0
    return next((int(s.split()[1]) / MIB_IN_KIB for s in lines if s.startswith("VmHWM")), 0.0)
