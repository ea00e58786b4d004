"""The openb benchmark: its data, its policies and its Monte-Carlo runs."""

import pytest

from bayplan import codec
from bayplan.codec import DecodeError
from bayplan.online.kinds import Kind, catalogue
from bayplan.online.scorer import NodeRoom, Row, Scorer, Spot
from bayplan.online.value import Copies
from benchmarks.openb import batch, moving, trace
from benchmarks.openb.inflation import INFLATION, arrivals, inflate
from benchmarks.openb.moving import Moving, used
from benchmarks.openb.policies import POLICIES, fgd, ours, scorer
from benchmarks.openb.trace import Trace

#: A node whose GPU is taken, and one whose GPU is not.
ROOM = (("full", 0), ("idle", 1000))

POD = {"cpu_milli": "1000", "memory_mib": "1", "num_gpu": "1", "gpu_milli": "500", "gpu_spec": "T4"}


@pytest.fixture(scope="module")
def default() -> Trace:
    """Return the default list."""
    return trace.load("default")


@pytest.fixture(scope="module")
def small(default: Trace) -> Trace:
    """Return a twentieth of the default list."""
    return Trace(nodes=default.nodes[::20], pods=default.pods[::20])


def test_the_data_is_all_there(default: Trace) -> None:
    """Figures on a part of the cluster would mean nothing."""
    assert (len(default.nodes), default.total_milli, len(default.pods)) == (1213, 6_212_000, 8152)
    assert len(trace.lists()) == 15
    assert round(trace.published("default")["FGD"].at_130, 2) == 4.61


def test_a_row_becomes_a_kind() -> None:
    """A share of one GPU of a model."""
    assert trace.pod(trace.Row("row 2", POD)) == Kind(
        cpu_milli=1000, memory_mib=1, gpus=1, gpu_milli=500, models=("T4",)
    )


@pytest.mark.parametrize(
    ("column", "cell", "problem"),
    [
        ("cpu_milli", "NaN", "should be a whole number, is 'NaN'"),
        ("memory_mib", "-1", "should lie between 0 and"),
        ("cpu_milli", "99999999999", "should lie between 0 and"),
        ("num_gpu", "", "should be a whole number, is ''"),
        ("gpu_milli", "1001", "should lie between 1 and 1000, is 1001"),
        ("gpu_milli", "0", "should lie between 1 and 1000, is 0"),
        ("num_gpu", "2", "should be 1000, a share is of one GPU"),
    ],
)
def test_a_bad_cell_is_named(column: str, cell: str, problem: str) -> None:
    """A silent zero would make the list easier."""
    with pytest.raises(DecodeError, match=f"row 2: .*: {problem}"):
        trace.pod(trace.Row("row 2", {**POD, column: cell}))


def test_a_list_that_is_not_there_is_named() -> None:
    """A typing error should say what there is."""
    with pytest.raises(DecodeError, match=r"openb_pod_list_defalt.*there are .*default"):
        trace.load("defalt")


@pytest.mark.parametrize("name", ["default", "multigpu30"])
def test_arrivals_ask_for_130_percent(name: str) -> None:
    """Lists that ask for less are drawn from, lists that ask for more are thinned."""
    listed = trace.load(name)
    pods = arrivals(listed, 1)
    demand = sum(pod.total_milli for pod in pods) / listed.total_milli
    assert INFLATION - 0.01 < demand <= INFLATION + 0.002
    assert arrivals(listed, 1) == pods != arrivals(listed, 2)


@pytest.mark.parametrize("policy", POLICIES)
def test_every_policy_fills_a_small_cluster(policy: str, small: Trace) -> None:
    """The smoke run: what is left over is a share of the cluster."""
    left = inflate(small, arrivals(small, 1), POLICIES[policy](small, 1))
    assert 0 < left.at_130 <= left.at_100 < 35


def test_our_fgd_is_as_good_as_the_published_one_and_ours_is_better(default: Trace) -> None:
    """A weak baseline would flatter us; the published runs spread over 0.3 points, too."""
    published = trace.published("default")["FGD"]
    pods = arrivals(default, 42)
    theirs = inflate(default, pods, fgd(default, 42))
    mine = inflate(default, pods, ours(default, 42))
    assert theirs.at_130 == pytest.approx(published.at_130, abs=0.3)
    assert theirs.at_100 == pytest.approx(published.at_100, abs=0.3)
    assert mine.at_130 < min(theirs.at_130, published.at_130, 4.3)
    assert mine.at_100 < min(theirs.at_100, published.at_100)


def test_moves_are_earned_by_arrivals(small: Trace) -> None:
    """One move for 100 arrivals is a promise about disruption."""
    pods = arrivals(small, 1)
    policy = Moving(scorer(small), small.pods, moves_per_100=1)
    for index, pod in enumerate(pods, start=1):
        policy.arrive(pod)
        assert policy.moves <= index // 100
    assert policy.moves > 0


def test_a_gap_is_worth_what_others_will_use_of_it() -> None:
    """Of shares that come often nearly all, of those that hardly ever come nearly nothing."""
    often, never = Kind(gpus=1, gpu_milli=300), Kind(gpus=1, gpu_milli=100)
    worth = used([often] * 999 + [never])
    assert worth[[99, 100, 299, 300, 650, 1000]] == pytest.approx([0, 0, 0, 300, 600, 900], abs=2)
    assert used([never] * 2 + [often] * 98)[100] == pytest.approx(50), "a fiftieth: half the time"


def test_a_share_moves_to_a_gap_that_it_fills(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that the GPU where it was is whole again."""
    monkeypatch.setattr(moving, "_BEGIN", 0)
    share, whole = Kind(gpus=1, gpu_milli=400), Kind(gpus=1)
    rooms = [NodeRoom(name=name, cpu_milli=9, memory_mib=9, devices=(free,)) for name, free in ROOM]
    worth = Copies.of_catalogue(catalogue({share: 1, whole: 9}), ("",))
    scorer = Scorer(rooms, worth, ("",))
    policy = Moving(scorer, [whole] * 9 + [share], moves_per_100=10)

    assert policy.arrive(share), "on the node with room"
    scorer.give(share, Spot(row=Row(0), devices=(0,)))  # somebody leaves the other one
    fitted = [policy.arrive(whole) for _ in range(10)]

    assert policy.moves == 1, "the tenth arrival has earned it"
    assert fitted == [False] * 9 + [True]


def test_a_batch_asks_for_shares_as_shares(default: Trace) -> None:
    """Each would get a GPU for itself, and a fifth of the demand would be made up."""
    pods = codec.snapshot_of([batch.documents("default")]).pods

    milli = sum(pod.requests.share_milli for pod in pods)
    whole = sum(pod.requests[batch.GPU] for pod in pods)
    assert milli == sum(kind.gpu_milli for kind in default.pods if kind.is_share)
    assert milli + whole * 1000 == sum(kind.total_milli for kind in default.pods)
