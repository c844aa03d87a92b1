"""The text that says where the workers run, and the shard of a job."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from robustness.cli.recorded_files import options_of
from robustness.configuration.audit_config import AuditConfig
from robustness.configuration.audit_file import expect_trust_given
from robustness.configuration.cluster_option import Cluster
from robustness.configuration.recorded import from_recorded, recorded
from robustness.configuration.shard import Shard
from robustness.errors import SettingError
from robustness.runs.run_json import recorded as part_of
from robustness.runs.schema import Options, Origin
from robustness.runs.seal import sealed


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


def test_none_is_no_cluster():
    assert AuditConfig(cluster="none").cluster is None


def test_a_file_alone_names_no_ray_cluster():
    """Whoever answers at the address can run code here."""
    config = AuditConfig(cluster="host:6379")
    with pytest.raises(SettingError, match="Type --cluster"):
        expect_trust_given(config, "audit.toml", {})
    expect_trust_given(config, "audit.toml", {"cluster": "host:6379"})
    expect_trust_given(config, "audit.toml", {"cluster": None})
    expect_trust_given(AuditConfig(cluster="local:2"), "audit.toml", {})


@pytest.mark.parametrize("typed", [None, "local:2", "none"])
def test_a_received_run_names_no_cluster_and_an_own_one_may_be_resumed_elsewhere(typed):
    options = part_of(Options, recorded(AuditConfig(cluster="host:6379")), "A test")
    received = Origin(options=options)
    given = {"attack": ["bim"], "cluster": typed}
    config = from_recorded(options_of(received, Path("run"), given, trust=False))
    assert config.cluster == (None if typed == "none" else typed)
    own = sealed(Origin(options=options))
    config = from_recorded(options_of(own, Path("run"), given, trust=False))
    assert config.cluster == {None: "host:6379", "none": None}.get(typed, typed)
