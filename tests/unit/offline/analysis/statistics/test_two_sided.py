import numpy as np
import pytest

from offline.analysis.statistics.clusters import cluster_robust
from offline.analysis.statistics.two_sided import two_sided
from services.common.errors import InvalidArgument


def market(seed: int, viewers: int = 60, hosts: int = 24) -> tuple[np.ndarray, ...]:
    random = np.random.default_rng(seed)
    viewer, host = (each.ravel() for each in np.indices((viewers, hosts)))
    seen = random.random(len(viewer)) < 0.4
    viewer, host = viewer[seen], host[seen]
    viewer_arms, host_arms = random.permutation(viewers) % 2, random.permutation(hosts) % 2
    values = (
        random.normal(0, 0.3, viewers)[viewer]
        + random.normal(0, 0.3, hosts)[host]
        + random.normal(0, 1, len(viewer))
    )
    return values, viewer_arms[viewer] == 1, host_arms[host] == 1, viewer, host


def test_contrasts_are_those_of_the_four_means() -> None:
    values, by_viewer, by_host, viewer, host = market(1)
    values = values + 2.0 * (by_viewer & by_host) - 0.5 * (by_viewer & ~by_host)
    found = two_sided(values, by_viewer, by_host, viewer, host)
    mean = {
        (a, b): values[(by_viewer == a) & (by_host == b)].mean()
        for a in (False, True)
        for b in (False, True)
    }
    neither, both = mean[False, False], mean[True, True]
    assert found.total.estimate == pytest.approx(both - neither)
    assert found.viewer_spillover.estimate == pytest.approx(mean[True, False] - neither)
    assert found.host_spillover.estimate == pytest.approx(mean[False, True] - neither)
    assert found.direct.estimate == pytest.approx(
        both - mean[True, False] - mean[False, True] + neither
    )
    assert found.total.control_mean == pytest.approx(neither)
    assert found.direct.lower < 2.5 < found.direct.upper


def test_variances_of_both_sides_add_up() -> None:
    values, by_viewer, by_host, viewer, host = market(2)
    design = np.stack(
        [~by_viewer & ~by_host, by_viewer & ~by_host, ~by_viewer & by_host, by_viewer & by_host],
        axis=1,
    ).astype(float)
    parts = [
        cluster_robust(values, design, labels).covariance
        for labels in (viewer, host, np.arange(len(values)))
    ]
    total = np.array([-1, 0, 0, 1])
    one_way = [total @ part @ total for part in parts]
    found = two_sided(values, by_viewer, by_host, viewer, host).total
    expected = max(one_way[0] + one_way[1] - one_way[2], one_way[0], one_way[1])
    assert found.standard_error**2 == pytest.approx(expected)


def test_swapping_the_sides_swaps_the_spillovers() -> None:
    values, by_viewer, by_host, viewer, host = market(3)
    ours = two_sided(values, by_viewer, by_host, viewer, host)
    other = two_sided(values, by_host, by_viewer, host, viewer)
    assert other.viewer_spillover.p_value == pytest.approx(ours.host_spillover.p_value)
    assert other.direct.estimate == pytest.approx(ours.direct.estimate)


def test_bad_input() -> None:
    values, by_viewer, by_host, viewer, host = market(4)
    with pytest.raises(InvalidArgument, match="empty"):
        two_sided(values, by_viewer, by_viewer, viewer, np.arange(len(values)))
    with pytest.raises(InvalidArgument, match="hosts"):
        two_sided(values, by_viewer, by_host, viewer, by_host)
    with pytest.raises(InvalidArgument, match="viewers"):
        two_sided(values, by_viewer, by_host, viewer[1:], host)
