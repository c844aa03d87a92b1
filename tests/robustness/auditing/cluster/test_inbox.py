"""The images that wait at a worker."""

from __future__ import annotations

import threading
import time

from hypothesis import given
from hypothesis import strategies as st

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
    rows = [image.row for image in inbox.images()]
    assert [row.key for row in rows if inbox.begins(row)] == ["a", "b"]
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


def test_an_open_inbox_waits_and_a_stopped_one_ends():
    inbox = Inbox()
    threading.Timer(0.05, inbox.feed, [fed("a", "b")]).start()
    assert inbox.wait()
    first = next(inbox.images()).row
    assert inbox.begins(first) and not inbox.stopped
    inbox.stop()
    inbox.feed(fed("c"))
    assert inbox.stopped and not inbox.wait() and keys(inbox) == []


def test_decoded_images_come_back_until_they_begin():
    inbox = Inbox()
    inbox.feed(fed("a", "b", "c", "d"), last=True)
    images = inbox.images()
    a, b, c = (next(images).row for _ in range(3))
    assert inbox.begins(a)
    assert inbox.release(2) == ["d", "c"]
    # It comes again before its first row has reached the batch.
    inbox.feed(fed("c"), last=True)
    again = next(images).row
    assert inbox.release(9) == ["c", "b"]
    assert [inbox.begins(row) for row in (b, c, again)] == [False] * 3
    assert inbox.release(9) == []
    # After an error of memory those that ran begin again.
    assert inbox.begins(a)


@given(st.lists(st.sampled_from(["feed", "take", "begin", "release"]), max_size=40))
def test_every_image_begins_once_or_comes_back(actions):
    """For any order of calls, no image is lost or begins after it was given back."""
    inbox, names = Inbox(), iter(map(str, range(99)))
    fed_keys: set[str] = set()
    begun: set[str] = set()
    back: set[str] = set()
    decoded: list[ImageRow] = []
    images = inbox.images()
    for action in actions:
        if action == "feed":
            key = next(names)
            inbox.feed(fed(key), last=True)
            fed_keys.add(key)
        elif action == "take" and len(fed_keys) > len(decoded) + len(begun) + len(back):
            decoded.append(next(images).row)
        elif action == "begin" and decoded:
            row = decoded.pop(0)
            assert inbox.begins(row) == (row.key not in back)
            begun |= {row.key} - back
        elif action == "release":
            back |= set(inbox.release(2))
    back |= set(inbox.release(99))
    assert begun | back == fed_keys and not begun & back
