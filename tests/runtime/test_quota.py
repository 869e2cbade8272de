"""The share of the processors that a control group allows."""

from __future__ import annotations

import pytest

from tapeless.runtime import threads
from tapeless.runtime.quota import quota

V1 = "2:cpuacct:/\n1:cpu,cpuacct:/jobs/one\n0::/\n"
CASES = {
    "nothing said": ("0::/a\n", {}, None),
    "no limit": ("0::/a\n", {"a/cpu.max": "max 100000"}, None),
    "its own": ("0::/a\n", {"a/cpu.max": "150000 100000"}, 1.5),
    "one around it": ("0::/a/b\n", {"a/cpu.max": "50000 100000", "a/b/cpu.max": "300000 100000"}, 0.5),
    "the namespace's": ("0::/\n", {"cpu.max": "400000 100000"}, 4.0),
    "version 1": (V1, {"cpu,cpuacct/jobs/one/cpu.cfs_quota_us": "200000\n",
                       "cpu,cpuacct/jobs/one/cpu.cfs_period_us": "100000\n"}, 2.0),
    "version 1 without": (V1, {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, None),
    "version 1 in a container": (V1, {"cpu/cpu.cfs_quota_us": "300000", "cpu/cpu.cfs_period_us": "100000"}, 3.0),
    "nonsense": ("0::/\n", {"cpu.max": "what"}, None),
    "another controller": ("3:memory:/a\n", {"memory/a/cpu.max": "100000 100000"}, None),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_quotas(case, tmp_path):
    lines, files, expected = CASES[case]
    (tmp_path / "self").write_text(lines)
    for name, text in files.items():
        path = tmp_path / "groups" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert quota(tmp_path / "groups", tmp_path / "self") == expected


@pytest.mark.parametrize(("allowed", "expected"), [(None, 8), (0.5, 1), (1.9, 1), (3.0, 3), (99.0, 8)])
def test_processors(allowed, expected):
    assert threads.usable(8, allowed) == expected
