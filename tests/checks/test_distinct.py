import random
import tracemalloc

import pytest

from checks.distinct import Distinct


def key(number):
    return number.to_bytes(16, "big")


@pytest.fixture
def few(tmp_path):
    """Holds so few that everything goes through files."""
    distinct = Distinct(tmp_path / "ids", held=50)
    yield distinct
    distinct.close()
    assert not (tmp_path / "ids").exists()


def test_keys_that_come_once_are_not_told(few):
    for number in range(1000):
        few.add(key(number), number)
    assert list(few.repeats()) == []


@pytest.mark.parametrize("held", [10, 300, 100_000])
def test_exactly_the_keys_that_came_twice_are_told_with_their_places(tmp_path, held):
    generator, distinct = random.Random(held), Distinct(tmp_path / "ids", held=held)
    places = {}
    for place in range(3000):
        number = generator.randrange(2500) << generator.choice((0, 40, 100))
        places.setdefault(number, []).append(place)
        distinct.add(key(number), place)
    expected = {key(number): [*found[:3], len(found)] for number, found in places.items() if len(found) > 1}
    assert dict(distinct.repeats()) == expected
    distinct.close()


def test_one_key_without_end_is_counted(few):
    for place in range(1000):
        few.add(key(7), place)
    assert list(few.repeats()) == [(key(7), [0, 1, 2, 1000])]


def test_keys_that_end_alike_are_dealt_on_by_what_is_before(few):
    for number in range(500):
        few.add(key(number << 64), number)
    few.add(key(5 << 64), 9999)
    assert list(few.repeats()) == [(key(5 << 64), [5, 9999, 2])]


def test_more_may_come_after_it_was_asked(few):
    few.add(key(1), 1)
    assert list(few.repeats()) == []
    few.add(key(1), 2)
    assert list(few.repeats()) == [(key(1), [1, 2, 2])]


def test_memory_stays_flat(tmp_path):
    distinct = Distinct(tmp_path / "ids", held=1000)
    tracemalloc.start()
    for number in range(20_000):
        distinct.add(key(number * 0x9E3779B97F4A7C15), number)
    assert list(distinct.repeats()) == []
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    distinct.close()
    assert peak < 1_000_000
