"""What a worker sends to the driver, and when."""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future

from robustness.auditing.cluster.messages import Done
from robustness.auditing.cluster.outbox import Outbox


def finished(key: str) -> Future[Done]:
    future: Future[Done] = Future()
    future.set_result(Done(key, 1, "flipped", (), {}))
    return future


def test_a_finished_image_waits_for_no_other():
    outbox = Outbox()
    packets = outbox.packets()
    started = time.monotonic()
    outbox.put(finished("a"))
    assert [done.key for done in next(packets).done] == ["a"]
    # Nothing else was finished, and nothing was closed.
    assert 0.05 < time.monotonic() - started < 1


def test_images_of_one_moment_are_sent_together_and_the_last_at_once():
    outbox = Outbox()
    for key in "abc":
        outbox.put(finished(key))
    outbox.give_back([])
    outbox.give_back(["d"])
    threading.Timer(0.02, outbox.close).start()
    started = time.monotonic()
    (packet,) = outbox.packets()
    assert time.monotonic() - started < 0.09
    assert [done.key for done in packet.done] == ["a", "b", "c"]
    assert packet.released == ["d"]


def test_an_answer_without_images_is_sent_too():
    outbox = Outbox()
    outbox.give_back([])
    outbox.close()
    assert [packet.released for packet in outbox.packets()] == [[]]
