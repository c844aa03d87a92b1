"""The images that wait at a worker."""

from __future__ import annotations

import threading
import time

from robustness.auditing.cluster.inbox import Inbox
from robustness.auditing.cluster.messages import Fed
from robustness.runs.records import ImageRow


def fed(*keys: str) -> list[Fed]:
    return [Fed(ImageRow(key=key, position=0, name=key)) for key in keys]


def keys(inbox: Inbox) -> list[str]:
    return [image.row.key for image in inbox.images()]


def test_images_leave_in_order_and_come_back_from_the_end():
    inbox = Inbox()
    inbox.feed(fed("a", "b", "c", "d"), last=True)
    assert inbox.release(2) == ["d", "c"]
    assert keys(inbox) == ["a", "b"]
    assert inbox.release(5) == []


def test_a_batch_waits_for_images_that_may_come_and_not_for_others():
    inbox = Inbox()
    inbox.feed(fed("a"))
    thread = threading.Timer(0.05, inbox.feed, [fed("b")], {"last": True})
    thread.start()
    assert keys(inbox) == ["a", "b"]
    thread.join()
    started = time.monotonic()
    assert keys(inbox) == []
    assert time.monotonic() - started < 0.15


def test_an_open_inbox_waits_and_a_closed_one_ends():
    inbox = Inbox()
    threading.Timer(0.05, inbox.feed, [fed("a")]).start()
    assert inbox.wait()
    inbox.close()
    assert keys(inbox) == ["a"]
    assert not inbox.wait()
