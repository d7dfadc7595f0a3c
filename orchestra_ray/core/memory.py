"""Peak memory of processes, from Linux's /proc."""

from pathlib import Path

MIB_IN_KIB = 1024


def peak_mib(pid: int | str = "self") -> float:
    """Returns the peak resident set of the process in MiB; 0 if it has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except FileNotFoundError:
        return 0.0
    return next((int(s.split()[1]) / MIB_IN_KIB for s in lines if s.startswith("VmHWM")), 0.0)
