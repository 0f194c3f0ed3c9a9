import importlib
import inspect
from pathlib import Path

import pytest

from drills import disasters, registry
from drills.contract import ConfigurationMethod, DatabaseMethod, Disaster, ObjectMethod
from drills.methods import configuration, database, objects
from fixtures.offered import offered
from reports.records import HarnessError

REGISTRIES = [
    (registry.database_methods, database, DatabaseMethod),
    (registry.object_methods, objects, ObjectMethod),
    (registry.configuration_methods, configuration, ConfigurationMethod),
    (registry.all_disasters, disasters, Disaster),
]


@pytest.fixture
def package(tmp_path, monkeypatch, request):
    """Make an importable package of these files, and hand it back."""

    def make(**files):
        name = f"offers_{abs(hash(request.node.name))}"
        folder = tmp_path / name
        folder.mkdir()
        (folder / "__init__.py").touch()
        for file, source in files.items():
            (folder / f"{file}.py").write_text(source)
        return importlib.import_module(name)

    monkeypatch.syspath_prepend(str(tmp_path))
    return make


def offer(name):
    return f"class Method:\n    name = {name!r}\nMETHOD = Method()\n"


@pytest.mark.parametrize(("registered", "room", "contract"), REGISTRIES, ids=lambda part: getattr(part, "__name__", ""))
def test_a_registry_finds_exactly_the_files_there_are(registered, room, contract):
    files = {path.stem for path in Path(room.__file__).parent.glob("*.py")} - {"__init__"}
    assert {type(found).__module__.rpartition(".")[2] for found in registered().values()} == files
    assert len(registered()) == len(files) > 0


@pytest.mark.parametrize(("registered", "room", "contract"), REGISTRIES, ids=lambda part: getattr(part, "__name__", ""))
def test_what_is_registered_offers_the_whole_contract(registered, room, contract):
    asked = {name: member for name, member in vars(contract).items() if inspect.isfunction(member) and name[0] != "_"}
    for name, found in registered().items():
        assert found.name == name
        for method, signature in asked.items():
            assert inspect.signature(getattr(type(found), method)) == inspect.signature(signature)


def test_files_are_found_by_being_there(package):
    found = offered(package(one=offer("first"), two=offer("second")), "METHOD")
    assert sorted(found) == ["first", "second"]


@pytest.mark.parametrize(
    "source", ["", "METHOD = None", "class Method: pass\nMETHOD = Method()", "METHODS = []", offer("")],
    ids=["empty", "nothing", "nameless", "misspelt", "empty name"],
)  # fmt: skip
def test_a_file_that_registers_nothing_is_an_error_naming_it(package, source):
    with pytest.raises(HarnessError, match=r"offers_\d+\.two: no METHOD with a name\. Remedy: end the file with"):
        offered(package(one=offer("first"), two=source), "METHOD")


def test_a_name_registered_twice_is_an_error_naming_the_second_file(package):
    with pytest.raises(HarnessError, match=r"offers_\d+\.two: same is offered twice"):
        offered(package(one=offer("same"), two=offer("same")), "METHOD")
