import os
import signal
import threading

import pytest

from orchestra_ray.cli.signals import interrupted_by_sigterm


@pytest.mark.parametrize("ignored", [False, True])
def test_sigterm_interrupts_also_where_sigint_is_ignored(ignored: bool) -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    if ignored:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with interrupted_by_sigterm() as came:
            with pytest.raises(KeyboardInterrupt):
                os.kill(os.getpid(), signal.SIGTERM)
                threading.Event().wait(5)
            assert came == [signal.SIGTERM]
    finally:
        signal.signal(signal.SIGINT, before[0])
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_another_thread_has_no_handler() -> None:
    seen: list[object] = []

    def main() -> None:
        with interrupted_by_sigterm():
            seen.append(signal.getsignal(signal.SIGTERM))

    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=main)
    thread.start()
    thread.join()
    assert seen == [before]
