"""Models and datasets among metadata records: only true matches, the best first, with the reasons."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from ipfs_kit import Kit
from ipfs_kit.errors import BudgetExceeded, InvalidInput, NotFound
from ipfs_kit.ipld import CID


def cid_of(name: str) -> str:
    return str(CID.of(name.encode()))


RECORDS: dict[str, dict[str, Any]] = {
    "bert": {
        "metadata": {"title": "BERT base", "license": "apache-2.0"}, "size_bytes": 400, "access_count": 5,
        "properties": {"type": "model", "framework": "PyTorch", "task": "text-classification", "architecture": "bert",
                       "model_id": "bert-base", "dataset": "wiki"},
        "tags": ["nlp", "en"],
    },
    "distil": {
        "metadata": {"title": "DistilBERT"}, "size_bytes": 200, "access_count": 9,
        "properties": {"type": "Model", "framework": "pytorch", "task": "text_classification", "architecture": "BERT"},
        "tags": ["nlp"],
    },
    "resnet": {
        "filename": "resnet.onnx", "size_bytes": 100, "tags": ["vision"],
        "properties": {"framework": "onnx", "task": "image-classification"},
    },
    "gpt": {"properties": {"type": "model", "framework": "jax", "architecture": "gpt"}, "tags": ["nlp"]},
    "reviews": {
        "path": "/d/reviews.parquet", "properties": {"type": "dataset", "task": "text classification", "rows": 5_000},
        "tags": ["finance"],
    },
    "tweets": {
        "path": "/d/tweets.csv", "properties": {"resource_type": "dataset", "num_rows": "70000", "task": "Text-Classification"},
    },
    "news": {
        "tags": ["dataset", "text-classification"], "properties": {"domain": "Finance", "rows": 10**6}, "extension": "parquet",
    },
    "photos": {"tags": ["Dataset", "image-classification"]},
    "readme": {"path": "/model.txt", "metadata": {"title": "a text about the model and the dataset"}},
    "csv": {"path": "/plain.csv", "properties": {"task": "text-classification"}},
}  # fmt: skip


@pytest.fixture(scope="module")
def kit(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kit]:
    with Kit.open(tmp_path_factory.mktemp("resources") / "s") as opened:
        opened.metadata.add(records=[{"cid": cid_of(name), **record} for name, record in RECORDS.items()])
        yield opened


def names(matches: Any) -> list[str]:
    known = {cid_of(name): name for name in RECORDS}
    return [known[match.record["cid"]] for match in matches.matches]


def test_resources_are_those_that_say_so_and_have_everything_asked_for(kit: Kit) -> None:
    assert set(names(kit.metadata.resources(kind="model"))) == {"bert", "distil", "resnet", "gpt"}
    assert set(names(kit.metadata.resources(kind="dataset"))) == {"reviews", "tweets", "news", "photos"}
    assert len(names(kit.metadata.resources())) == 8
    assert names(kit.metadata.resources(kind="model", attributes={"framework": "PYTORCH"})) == ["distil", "bert"]
    assert names(kit.metadata.resources(attributes={"task": "text classification", "min_rows": 6_000})) != []
    assert set(names(kit.metadata.resources(attributes={"min_rows": 6_000}))) == {"tweets", "news"}
    assert names(kit.metadata.resources(attributes={"max_size": 100})) == ["resnet"]
    assert set(names(kit.metadata.resources(attributes={"framework": ["onnx", "jax"]}))) == {"resnet", "gpt"}
    assert names(kit.metadata.resources(tags=["NLP", "en"])) == ["bert"]
    assert names(kit.metadata.resources(text="distilbert")) == ["distil"]
    assert names(kit.metadata.resources(attributes={"license": "Apache 2.0"})) == ["bert"]
    assert names(kit.metadata.resources(attributes={"colour": "red"})) == []
    assert names(kit.metadata.resources(kind="model", limit=1)) == ["distil"]


def test_models_alike_come_with_score_and_reasons(kit: Kit) -> None:
    found = kit.metadata.similar_models("bert-base")
    assert names(found) == ["distil", "gpt"]
    best, other = found.matches
    assert best.matched == ["architecture", "task", "framework", "tags", "size"]
    assert other.matched == ["tags"]
    assert 0 < other.score < best.score < 1
    for called in (cid_of("bert"), "BERT base", "bert-base"):
        assert kit.metadata.similar_models(called) == found
    assert names(kit.metadata.similar_models("bert-base", criteria={"framework": 1})) == ["distil"]
    assert set(names(kit.metadata.similar_models("bert-base", criteria={"tags": True}))) == {"distil", "gpt"}
    assert names(kit.metadata.similar_models("resnet.onnx", criteria={"architecture": True})) == []
    with pytest.raises(NotFound, match="model"):
        kit.metadata.similar_models("nobody")
    for criteria in ({"colour": 1}, {"task": -1}, {"task": "x"}, {"task": False}):
        with pytest.raises(InvalidInput):
            kit.metadata.similar_models("bert-base", criteria=criteria)


def test_datasets_for_a_task_are_ranked_and_confined(kit: Kit) -> None:
    found = kit.metadata.datasets_for("text-classification")
    assert names(found) == ["tweets", "reviews", "news"]
    assert [match.score for match in found.matches] == [1.0, 1.0, 0.5]
    assert names(kit.metadata.datasets_for("TEXT classification", domain="finance")) == ["reviews", "news"]
    assert names(kit.metadata.datasets_for("text-classification", min_rows=6_000)) == ["tweets", "news"]
    assert names(kit.metadata.datasets_for("text-classification", format="parquet")) == ["reviews", "news"]
    assert names(kit.metadata.datasets_for("text-classification", limit=1)) == ["tweets"]
    assert names(kit.metadata.datasets_for("translation")) == []
    with pytest.raises(BudgetExceeded):
        kit.metadata.resources(tags=[f"t{number}" for number in range(100)])
    with pytest.raises(InvalidInput, match="task"):
        kit.metadata.datasets_for(" ")
