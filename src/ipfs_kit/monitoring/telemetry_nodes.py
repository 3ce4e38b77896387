"""Figures of several nodes put together: counts add up, and latencies are told from bands that add up too."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from ipfs_kit.errors import InvalidInput

BANDS_PER_DOUBLING: Final = 8
"""A latency told from bands is within 4.5 % of the exact one: half a band of 2 ** (1 / 8)."""
LOWEST_S: Final = 1e-6
BANDS_MAX: Final = 1_000
NODES_MAX: Final = 1_000


@dataclass(frozen=True, slots=True)
class NodeFigures:
    """What one node, or all together, did.

    Args:
        node: The store's id.
        made_s: When this was counted, seconds since 1970.
        operations: Operations that ended.
        succeeded: Those that succeeded.
        measured: Those whose time is known.
        seconds: The sum of those times.
        slowest_s: The longest; None when none is known.
        bands: Operations by band of their time.
    """

    node: str
    made_s: float
    operations: int
    succeeded: int
    measured: int
    seconds: float
    slowest_s: float | None
    bands: dict[str, int] = field(default_factory=dict)

    def latency(self, q: float) -> float | None:
        """A quantile of the times, within 4.5 %; None when none is known."""
        total = sum(self.bands.values())
        rank, seen = max(1, math.ceil(q * total)), 0
        for band in sorted(map(int, self.bands)):
            seen += self.bands[str(band)]
            if seen >= rank:
                middle = math.exp2((band + 0.5) / BANDS_PER_DOUBLING)
                return middle if self.slowest_s is None else min(middle, self.slowest_s)
        return None


def band_of(seconds: float) -> int:
    """The band of a time."""
    return math.floor(math.log2(max(seconds, LOWEST_S)) * BANDS_PER_DOUBLING)


def node_figures(given: Mapping[str, Any]) -> NodeFigures:
    """Figures that another node gave, checked.

    Args:
        given: Fields by name, as the node's own answer has them.

    Raises:
        InvalidInput: Something is missing, of another type or impossible.
    """
    kinds: dict[str, tuple[type, ...]] = {
        "node": (str,), "made_s": (int, float), "operations": (int,), "succeeded": (int,), "measured": (int,),
        "seconds": (int, float), "slowest_s": (int, float, type(None)), "bands": (dict,),
    }  # fmt: skip
    names = [each.name for each in dataclasses.fields(NodeFigures)]
    for name in names:
        value = given.get(name)
        if isinstance(value, bool) or not isinstance(value, kinds[name]):
            raise InvalidInput(
                f"the figures of a node need {name}: pass what 'telemetry cross-node' of that node shows"
            )
    bands: Mapping[Any, Any] = given["bands"]
    numbers = [given[name] for name in names if isinstance(given[name], int | float)]
    counted = all(type(count) is int and count >= 0 and _is_band(band) for band, count in bands.items())
    if (
        not counted
        or len(bands) > BANDS_MAX
        or not 0 < len(given["node"]) <= 200
        or not all(math.isfinite(number) and 0 <= number < 1 << 62 for number in numbers)
        or given["succeeded"] > given["operations"]
        or sum(bands.values()) != given["measured"]
    ):
        raise InvalidInput(f"the figures of node {given['node'][:60]!r} contradict themselves")
    return NodeFigures(**{name: given[name] for name in names})


def _is_band(band: Any) -> bool:
    text = band.removeprefix("-") if isinstance(band, str) else ""
    return text.isascii() and text.isdecimal() and len(text) <= 4


def newest_of_each(nodes: Sequence[NodeFigures]) -> list[NodeFigures]:
    """Each node once, by its newest figures, in order of their names."""
    found: dict[str, NodeFigures] = {}
    for each in nodes:
        known = found.get(each.node)
        if known is None or each.made_s > known.made_s:
            found[each.node] = each
    return [found[name] for name in sorted(found)]


def together(nodes: Iterable[NodeFigures]) -> NodeFigures:
    """The sum of several nodes."""
    listed = list(nodes)
    bands: dict[str, int] = {}
    for each in listed:
        for band, count in each.bands.items():
            bands[band] = bands.get(band, 0) + count
    return NodeFigures(
        "all",
        max((each.made_s for each in listed), default=0.0),
        sum(each.operations for each in listed),
        sum(each.succeeded for each in listed),
        sum(each.measured for each in listed),
        math.fsum(each.seconds for each in listed),
        max((each.slowest_s for each in listed if each.slowest_s is not None), default=None),
        {band: bands[band] for band in sorted(bands, key=int)},
    )
