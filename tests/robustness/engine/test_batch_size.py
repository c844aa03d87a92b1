"""The batch size by the free memory, of the machine and of its container."""

from __future__ import annotations

import pytest

from robustness.engine import batch_size
from robustness.models.scan import limited_process, memory
from tests.robustness.helpers import small_cnn

GIB = 1 << 30
V2 = {"memory.max": f"{8 * GIB}\n", "memory.current": f"{5 * GIB}\n"}
V1 = {"memory.limit_in_bytes": f"{6 * GIB}\n", "memory.usage_in_bytes": f"{2 * GIB}\n"}


@pytest.fixture
def cgroups(monkeypatch, tmp_path):
    """Writes the files of cgroup v2 and v1 of a container."""
    folders = (tmp_path / "v2", tmp_path / "v1")
    known = [(str(f), *names) for f, (_, *names) in zip(folders, memory.CGROUPS, strict=True)]
    monkeypatch.setattr(memory, "CGROUPS", tuple(known))

    def write(v2, v1):
        for folder, files in zip(folders, (v2, v1), strict=True):
            folder.mkdir()
            for name, text in files.items():
                (folder / name).write_text(text)

    return write


@pytest.mark.parametrize(
    ("v2", "v1", "left"),
    [
        ({}, {}, 20),
        (V2, {}, 3),
        (V2, V1, 3),
        ({}, V1, 4),
        (V2 | {"memory.stat": f"anon 7\ninactive_file {GIB}\n"}, {}, 4),
        ({}, V1 | {"memory.stat": f"total_inactive_file {GIB}\n"}, 5),
        (V2 | {"memory.stat": "anon 7\n"}, {}, 3),
        (V2 | {"memory.max": "max\n"}, {}, 20),
        (V2 | {"memory.max": "max\n"}, V1, 4),
        (V2 | {"memory.max": f"{GIB}\n"}, {}, 0),
        ({}, V1 | {"memory.limit_in_bytes": "9223372036854771712\n"}, 20),
        ({"memory.max": f"{8 * GIB}\n"}, {}, 20),
    ],
)
def test_the_limit_of_a_container_counts_where_it_leaves_less(cgroups, v2, v1, left):
    cgroups(v2, v1)
    assert memory.within_container(20 * GIB) == left * GIB
    assert memory.within_container(0) == 0


def test_a_batch_is_bounded_by_the_limit_of_the_container(monkeypatch, cgroups):
    cgroups(V2, {})
    pages = {"SC_AVPHYS_PAGES": 20, "SC_PAGE_SIZE": GIB}
    monkeypatch.setattr(batch_size.os, "sysconf", pages.__getitem__)
    monkeypatch.setattr(memory, "_of_machine", lambda: 30 * GIB)
    monkeypatch.setattr(batch_size, "row_bytes", lambda _: GIB // 8)
    monkeypatch.setattr(batch_size.backend, "accelerated", lambda: False)
    classifier = small_cnn(9)
    assert batch_size.free_bytes() == 3 * GIB
    assert batch_size.batch_size_for(classifier) == 18
    assert batch_size.bounded(100, classifier) == 24
    assert batch_size.bounded(7, classifier) == 7
    # A trial load of a model stays within the container, too.
    assert limited_process.budget() < 3 * GIB
