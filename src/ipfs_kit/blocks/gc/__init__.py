"""Garbage collection: reference counts kept beside the index, a pure planner, a thin executor (decisions 5 and 6).

``Collector.collect`` runs it; ``plan`` decides; ``full_check`` is the plain mark-and-sweep it must agree with.
"""

from ipfs_kit.blocks.gc.collect import Collector, GcReport
from ipfs_kit.blocks.gc.counts import EdgeCounts, LinksOf, plain_links
from ipfs_kit.blocks.gc.plan import GcPlan, Inventory, plan
from ipfs_kit.blocks.gc.sweep import full_check

__all__ = ["Collector", "EdgeCounts", "GcPlan", "GcReport", "Inventory", "LinksOf", "full_check", "plain_links", "plan"]
