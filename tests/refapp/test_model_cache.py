"""The model lies in the real Hugging Face cache layout: its own client finds it, offline."""

import pytest

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
