"""The model lies in the real Hugging Face cache layout: its own client finds it, offline."""

import pytest

from fixtures.model_hub import WEIGHTS_FILE, ModelHub, make_model
from fixtures.refapp.model import MODEL_FILE, MODEL_ID, ModelError, load_model, preload_model


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A home directory whose cache is the one that huggingface_hub looks in; it read the real one on import."""
    constants = pytest.importorskip("huggingface_hub.constants")
    cache = tmp_path / ".cache" / "huggingface" / "hub"
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return tmp_path


def test_the_hubs_own_client_finds_the_model_offline(hub):
    from huggingface_hub import hf_hub_download

    preload_model(hub)
    cache = hub / ".cache" / "huggingface" / "hub"
    path = hf_hub_download(MODEL_ID, MODEL_FILE, cache_dir=str(cache), local_files_only=True)
    assert load_model(MODEL_ID).revision in path


def test_preloading_twice_changes_nothing(hub):
    preload_model(hub)
    before = sorted((path, path.stat().st_mtime_ns) for path in hub.rglob(MODEL_FILE))
    preload_model(hub)
    assert before == sorted((path, path.stat().st_mtime_ns) for path in hub.rglob(MODEL_FILE))


def test_the_clients_own_scan_of_the_cache_reports_no_problem(hub):
    from huggingface_hub import scan_cache_dir

    preload_model(hub)
    seen = scan_cache_dir(str(hub / ".cache" / "huggingface" / "hub"))
    assert [repository.repo_id for repository in seen.repos] == [MODEL_ID]
    assert seen.warnings == []


def test_a_missing_model_is_named_with_the_remedy(hub):
    with pytest.raises(ModelError, match="pre-load it"):
        load_model(MODEL_ID)


def test_a_broken_model_is_named_with_the_remedy(hub):
    preload_model(hub)
    next(hub.rglob(MODEL_FILE)).write_text("{")
    with pytest.raises(ModelError, match="not readable"):
        load_model(MODEL_ID)


@pytest.fixture
def online(hub, tmp_path, monkeypatch):
    """A model hub that the client may ask, with a model that has weights; its cache is empty."""
    constants = pytest.importorskip("huggingface_hub.constants")
    with ModelHub() as served:
        served.publish(MODEL_ID, make_model(tmp_path / "published", weights_bytes=2_000_000))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "ENDPOINT", served.endpoint)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", served.endpoint + "/{repo_id}/resolve/{revision}/{filename}"
        )
        yield served


def test_an_empty_cache_is_filled_from_the_hub(online):
    assert load_model(MODEL_ID).revision == online.models[MODEL_ID].commit
    assert sum(asked.download for asked in online.asked()) == 2


def test_a_filled_cache_asks_the_hub_for_nothing(online):
    load_model(MODEL_ID)
    before = len(online.asked())
    load_model(MODEL_ID)
    assert len(online.asked()) == before


def test_weights_that_are_not_those_of_the_model_are_refused(online, hub):
    load_model(MODEL_ID)
    next(hub.rglob(f".cache/**/{WEIGHTS_FILE}")).write_bytes(b"other weights")
    with pytest.raises(ModelError, match="not readable"):
        load_model(MODEL_ID)


def test_a_hub_that_knows_no_such_model_is_told_without_its_address(online):
    online.models.clear()
    with pytest.raises(ModelError, match="the hub did not give it") as told:
        load_model(MODEL_ID)
    assert online.endpoint not in str(told.value)
