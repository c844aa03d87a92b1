"""The text that says where the workers run, and the shard of a job."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from robustness.configuration.cluster_option import Cluster
from robustness.configuration.shard import Shard
from robustness.errors import SettingError


@pytest.mark.parametrize(
    ("text", "cluster"),
    [
        ("local:2", Cluster("", 2)),
        ("local:4,cpus=2", Cluster("", 4, 2)),
        ("auto", Cluster("auto")),
        ("head.example:6379,workers=8,gpus=0.5", Cluster("head.example:6379", 8, None, 0.5)),
        ("ray://10.0.0.1:10001", Cluster("ray://10.0.0.1:10001")),
        ("[::1]:6379", Cluster("[::1]:6379")),
    ],
)
def test_every_form_is_read(text, cluster):
    assert Cluster.parse(text) == cluster


@pytest.mark.parametrize(
    "text",
    [
        "",
        "local",
        "local:0",
        "local:x",
        "local:99999",
        "local:2,workers=3",
        "auto,cpus=0",
        "auto,cpus=1.5",
        "auto,cpus=1,cpus=2",
        "auto,colour=2",
        "host",
        "host:port",
        "host:70000",
        "http://host:1/path",
    ],
)
def test_other_forms_are_refused_with_the_right_ones(text):
    with pytest.raises(SettingError, match="local:N"):
        Cluster.parse(text)


@given(st.integers(0, 400), st.integers(1, 40))
def test_shards_are_a_partition_in_order(total, count):
    items = list(range(total))
    parts = [Shard(index, count).of(items) for index in range(count)]
    assert [item for part in parts for item in part] == items
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    assert Shard(0, count).first(total) == 0


@pytest.mark.parametrize("text", ["3", "3/3", "-1/3", "1/0", "a/b", "1/2/3", "0/100001"])
def test_a_shard_that_does_not_exist_is_refused(text):
    with pytest.raises(SettingError, match="NUMBER/COUNT"):
        Shard.parse(text)
