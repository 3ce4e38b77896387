"""Models and datasets among the records of the metadata index."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from ipfs_kit._dataclasses import dataclass
from ipfs_kit.operations.arguments import Arg
from ipfs_kit.operations.catalogue import Mode, operation
from ipfs_kit.operations.context import Context
from ipfs_kit.operations.places import Everywhere
from ipfs_kit.operations.toolsets.metadata import reading
from ipfs_kit.search.metadata import resources
from ipfs_kit.search.metadata.resources import Match

READS = Everywhere("shows what is known of all content")
Most = Annotated[int, Arg("most records returned", minimum=1, maximum=1_000, flag="n")]


@dataclass(frozen=True, slots=True)
class Matches:
    """Records found, best first, each with its score and what it has of what was asked for."""

    matches: list[Match]


@operation("metadata.resources", Mode.READ, "metadata:read", places=READS, aliases=("find_ai_ml_resources",))
def metadata_resources(
    ctx: Context,
    kind: Annotated[Literal["model", "dataset"] | None, Arg("only models, or only datasets")] = None,
    attributes: Annotated[
        dict[str, Any] | None,
        Arg(
            "what they must have: framework, task, domain, architecture, language, license, format, min_size, max_rows ..."
        ),
    ] = None,
    tags: Annotated[list[str] | None, Arg("tags they must all have")] = None,
    text: Annotated[str | None, Arg("words they must hold")] = None,
    limit: Most = 20,
) -> Matches:
    """Find models and datasets that have everything asked for, the most used first.

    What a record is it says itself: in ``properties.type``, by a tag, and a model by its file's extension.
    """
    found = resources.find(ctx.engine.metadata, kind, attributes or {}, tags or (), text, limit, reading(ctx))
    return Matches(found)


@operation("metadata.similar_models", Mode.READ, "metadata:read", places=READS, aliases=("find_similar_models",))
def metadata_similar_models(
    ctx: Context,
    model: Annotated[str, Arg("a CID, or a model's id, name, title or file name", positional=True)],
    criteria: Annotated[
        dict[str, Any] | None,
        Arg(f"weight by attribute, of {', '.join(resources.WEIGHTS)}; the usual ones when left out"),
    ] = None,
    limit: Most = 5,
) -> Matches:
    """Find the models that have most in common with one; the score is the share of its attributes they have, by weight.

    Raises:
        NotFound: There is no record of the model.
    """
    return Matches(resources.similar_models(ctx.engine.metadata, model, criteria, limit, reading(ctx)))


@operation("metadata.datasets_for", Mode.READ, "metadata:read", places=READS, aliases=("find_datasets_for_task",))
def metadata_datasets_for(
    ctx: Context,
    task: Annotated[str, Arg("the task, for example text-classification", positional=True)],
    domain: Annotated[str | None, Arg("only of this domain")] = None,
    min_rows: Annotated[int | None, Arg("only with so many rows", minimum=0)] = None,
    format: Annotated[str | None, Arg("only in this format, for example parquet")] = None,  # noqa: A002 - published name
    limit: Most = 10,
) -> Matches:
    """Find datasets for a task: those that name it as their task before those that bear it as a tag, larger ones first."""
    attributes = {"domain": domain, "min_rows": min_rows, "format": format}
    return Matches(resources.datasets_for(ctx.engine.metadata, task, attributes, limit, reading(ctx)))
