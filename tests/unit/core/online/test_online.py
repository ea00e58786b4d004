"""Places of single pods that arrive without a plan."""

import subprocess
import sys
from collections.abc import Callable

import pytest

from bayplan.online.kinds import Kind, catalogue
from bayplan.online.scorer import NodeRoom, Row, Scorer, Spot
from bayplan.online.value import Copies

SHARE = Kind(cpu_milli=1000, gpus=1, gpu_milli=600)
SMALL = Kind(cpu_milli=1000, gpus=1, gpu_milli=400)
WHOLE = Kind(cpu_milli=4000, gpus=1)
PAIR = Kind(cpu_milli=4000, gpus=2)
CPU_ONLY = Kind(cpu_milli=6000)


def scorer(*nodes: NodeRoom) -> Scorer:
    """Return a scorer that expects all kinds above."""
    known = catalogue(dict.fromkeys((SHARE, SMALL, WHOLE, PAIR, CPU_ONLY), 10))
    models = sorted({node.model for node in nodes})
    return Scorer(nodes, Copies.of_catalogue(known, models), models)


def node(name: str, *devices: int, cpu_milli: int = 16_000, model: str = "A") -> NodeRoom:
    """Return a node with so much free on its devices."""
    return NodeRoom(name=name, cpu_milli=cpu_milli, memory_mib=1024, devices=devices, model=model)


def test_two_shares_of_sixty_percent_take_two_gpus() -> None:
    """Counting free GPU by node instead of by device would put both on one."""
    online = scorer(node("n", 1000, 1000))
    for device in (0, 1):
        spot = online.choose(SHARE)
        assert spot == Spot(row=Row(0), devices=(device,))
        online.take(SHARE, spot)
    assert online.choose(SHARE) is None


def test_a_share_fills_the_device_that_it_fits_best() -> None:
    """A share on a fresh device would cost a whole one."""
    assert scorer(node("n", 1000, 400)).choose(SMALL) == Spot(row=Row(0), devices=(1,))


def test_a_whole_gpu_spares_a_pair() -> None:
    """Breaking a free pair leaves nothing for pods of two GPUs."""
    online = scorer(node("a", 1000, 1000), node("b", 0, 1000))
    assert online.choose(WHOLE) == Spot(row=Row(1), devices=(1,))


def test_a_pod_without_gpus_goes_where_its_cpu_is_missed_least() -> None:
    """CPU that goes away beside free GPUs strands them."""
    online = scorer(node("a", 1000, 1000, cpu_milli=8000), node("b", 0, 0, cpu_milli=8000))
    assert online.choose(CPU_ONLY) == Spot(row=Row(1), devices=())


def test_another_model_will_not_do() -> None:
    """A pod that asks for a model must wait for it."""
    online = scorer(node("a", 1000), node("b", 1000, model="B"))
    asks = Kind(gpus=1, models=("B",))
    assert online.choose(asks) == Spot(row=Row(1), devices=(0,))
    assert online.choose(Kind(gpus=1, models=("C",))) is None


def test_an_overcommitted_node_takes_nobody() -> None:
    """Free CPU can be negative after a node has shrunk."""
    assert scorer(node("n", 1000, cpu_milli=-1)).choose(Kind(gpus=1)) is None


def test_an_empty_fleet_and_an_empty_catalogue_are_fine() -> None:
    """A webhook that has seen nothing yet must answer."""
    nothing = Copies.of_catalogue(catalogue({}), ["A"])
    assert Scorer([], nothing, ["A"]).choose(WHOLE) is None
    assert Scorer([node("n", 1000)], nothing, ["A"]).choose(WHOLE) == Spot(row=Row(0), devices=(0,))


def test_taking_what_is_not_there_is_refused_and_changes_nothing() -> None:
    """A caller that lost track must not corrupt the scores."""
    online = scorer(node("n", 400))
    with pytest.raises(ValueError, match=r"node n: .* does not fit on devices"):
        online.take(SHARE, Spot(row=Row(0), devices=(0,)))
    assert online.devices.tolist() == [[400]]


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: Kind(gpus=-1),
        lambda: Kind(cpu_milli=-1),
        lambda: Kind(gpus=2, gpu_milli=500),
        lambda: Kind(gpus=1, gpu_milli=0),
    ],
    ids=["negative GPUs", "negative CPU", "a share of two GPUs", "an empty share"],
)
def test_an_impossible_request_is_refused(wrong: Callable[[], Kind]) -> None:
    """Scores of nonsense would look like scores."""
    with pytest.raises(ValueError, match="Kind"):
        wrong()


def test_a_device_has_at_most_one_gpu_free() -> None:
    """Free room beyond a whole GPU is a mistake of the caller."""
    with pytest.raises(ValueError, match="node n: a device has"):
        node("n", 1001)


def test_the_score_does_not_load_the_solver() -> None:
    """The webhook imports it, and OR-Tools would cost it memory and start-up time."""
    code = "import sys, bayplan.online.scorer; sys.exit('ortools' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0  # noqa: S603
