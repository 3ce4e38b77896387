"""Which optional parts are here, and start-up of the AI components."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Mapping
from typing import Any

from ipfs_kit.errors import Unsupported
from ipfs_kit_py._adapter import HAS_ACCELERATE, HAS_DATASETS

__all__ = [
    "HAS_ACCELERATE",
    "HAS_DATASETS",
    "check_dependencies",
    "initialize_ai_ml_integrator",
    "initialize_all_components",
    "initialize_dataset_manager",
    "initialize_distributed_training",
    "initialize_framework_integration",
    "initialize_model_registry",
    "setup_logging",
]

DEPENDENCIES = {
    "ipfs_datasets_py": "ipfs_datasets_py",
    "ipfs_accelerate_py": "ipfs_accelerate_py",
    "torch": "torch",
    "transformers": "transformers",
    "langchain": "langchain_core",
    "llama_index": "llama_index",
    "anyio": "anyio",
    "pyarrow": "pyarrow",
    "duckdb": "duckdb",
    "numpy": "numpy",
    "mcp": "mcp",
    "starlette": "starlette",
    "uvicorn": "uvicorn",
    "lmdb": "lmdb",
    "cryptography": "cryptography",
}
"""Published name of each dependency and the module that shows it is installed."""


def check_dependencies() -> dict[str, bool]:
    """Whether each dependency is installed; looks without importing any of them.

    Returns:
        Dependency name to True when its module can be found.
    """
    return {name: importlib.util.find_spec(module) is not None for name, module in DEPENDENCIES.items()}


def setup_logging(config: Mapping[str, Any] | None = None) -> logging.Logger:
    """Set the level, and a handler when none is there, of the ``ipfs_kit_py`` logger; leaves all other loggers alone.

    Args:
        config: ``level`` (name or number, default INFO) and ``format``.

    Returns:
        The logger.
    """
    given = dict(config or {})
    logger = logging.getLogger("ipfs_kit_py")
    logger.setLevel(given.get("level", logging.INFO))
    if not logger.handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter(given.get("format", "%(asctime)s %(levelname)s %(name)s: %(message)s")))
        logger.addHandler(handler)
    return logger


def _absent(what: str, part: str) -> Unsupported:
    return Unsupported(f"{what} comes with the {part} part, which this build does not have: nothing was started")


def initialize_all_components(config_path: str | None = None, mcp_server: Any = None) -> dict[str, Any]:
    """Start every AI component; raises ``Unsupported`` until the models part is there."""
    raise _absent("the AI components", "models")


def initialize_model_registry(config: Mapping[str, Any]) -> Any:
    """Start the model registry; raises ``Unsupported`` until the models part is there."""
    raise _absent("the model registry", "models")


def initialize_dataset_manager(config: Mapping[str, Any]) -> Any:
    """The dataset manager of a store.

    Args:
        config: ``storage_path`` names the store; ``ipfs_client`` may be a Kit.
    """
    from ipfs_kit_py.ipfs_datasets_integration import IPFSDatasetsManager

    return IPFSDatasetsManager(config.get("ipfs_client"), storage_path=config.get("storage_path"))


def initialize_distributed_training(config: Mapping[str, Any]) -> Any:
    """Start distributed training; raises ``Unsupported`` until the compute part is there."""
    raise _absent("distributed training", "compute")


def initialize_framework_integration(config: Mapping[str, Any]) -> Any:
    """Start the framework integrations; raises ``Unsupported`` until the models part is there."""
    raise _absent("framework integration", "models")


def initialize_ai_ml_integrator(
    config: Mapping[str, Any],
    model_registry: Any = None,
    dataset_manager: Any = None,
    distributed_training: Any = None,
    framework_integration: Any = None,
    mcp_server: Any = None,
) -> Any:
    """Start the coordinator of the AI components; raises ``Unsupported`` until the models part is there."""
    raise _absent("the AI/ML integrator", "models")
