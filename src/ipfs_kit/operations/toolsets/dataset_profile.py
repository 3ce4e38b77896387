"""What columns of datasets are like, and how far versions moved apart."""

from __future__ import annotations

from typing import Annotated

from ipfs_kit.datasets.profiling import Drift, Profile
from ipfs_kit.errors import InvalidInput
from ipfs_kit.operations.arguments import Arg
from ipfs_kit.operations.catalogue import Mode, operation
from ipfs_kit.operations.context import Context
from ipfs_kit.operations.places import READ, Touch
from ipfs_kit.operations.toolsets.dataset import Columns, SplitName, Version, state_at


@operation(
    "dataset.profile",
    Mode.READ,
    "dataset:read",
    target=lambda b: str(b["version"]),
    places=(Touch("version", READ, whole=True),),
)
def dataset_profile(
    ctx: Context,
    version: Version,
    split: SplitName = None,
    columns: Columns = None,
    correlate: Annotated[bool, Arg("tell how numeric columns go together")] = True,
) -> Profile:
    """Describe the columns of any version: nulls, distinct values, bounds, means, quartiles, correlations.

    Raises:
        BudgetExceeded: The rows need more than 1 GB of memory.
    """
    from ipfs_kit.datasets.profiling import profile
    from ipfs_kit.datasets.state import check_columns

    state = state_at(ctx, version)
    check_columns(columns, state.schema)
    return profile(state, split, columns, correlate, lambda rows: ctx.progress(rows, unit="rows"))


@operation(
    "dataset.drift",
    Mode.READ,
    "dataset:read",
    target=lambda b: f"{b['before']} -> {b['after']}",
    places=(Touch("before", READ, whole=True), Touch("after", READ, whole=True)),
)
def dataset_drift(
    ctx: Context,
    before: Annotated[str, Arg("the earlier DATASET[@ref]", positional=True)],
    after: Annotated[str, Arg("the later DATASET[@ref]", positional=True)],
    split: SplitName = None,
    columns: Columns = None,
    threshold: Annotated[float, Arg("population stability index from which on a column has drifted")] = 0.2,
) -> Drift:
    """Say how far the values of each column moved between two versions, the one that moved most first.

    Raises:
        InvalidInput: A version has no rows, or the threshold is not above 0.
    """
    from ipfs_kit.datasets.profiling import drift

    if not threshold > 0:
        raise InvalidInput("a threshold is above 0; 0.1 is a small change, 0.25 a large one")
    return drift(
        state_at(ctx, before), state_at(ctx, after), split, columns, threshold,
        lambda done: ctx.progress(done, unit="columns"),
    )  # fmt: skip
