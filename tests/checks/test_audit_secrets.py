import base64
import json
import random

import pytest

from checks.audit_secrets import SecretSearch, forms

SECRET = 's3cret/Zürich+"1"'
WRITTEN = {
    "as it is": SECRET,
    "JSON": json.dumps({"a": SECRET}),
    "JSON that escapes slashes": json.dumps({"a": SECRET}).replace("/", "\\/"),
    "hex": SECRET.encode().hex(),
    "HEX": SECRET.encode().hex().upper(),
    "percent": "s3cret%2FZ%C3%BCrich%2B%221%22",
}


@pytest.mark.parametrize("written", WRITTEN.values(), ids=WRITTEN)
def test_a_secret_is_found_in_whatever_form_it_is_written(written):
    search = SecretSearch.of({"the key": SECRET})
    assert {name for _, name in search.feed(f"x {written} y\n".encode())} == {"the key"}


@pytest.mark.parametrize("before", ["", "a", "ab", "abc", "DATABASE_URL=postgresql://u:"])
@pytest.mark.parametrize("after", ["", "\n", "@h", "xyz"])
@pytest.mark.parametrize("encode", [base64.b64encode, base64.urlsafe_b64encode])
def test_a_secret_within_something_in_base64_is_found_wherever_it_stands(before, after, encode):
    text = encode(f"{before}{SECRET}{after}".encode())
    assert any(form in text for form in forms(SECRET))


def test_nothing_is_found_in_the_base64_of_something_else():
    noise = random.Random(1).randbytes(60_000)
    search = SecretSearch.of({"short": "pass12", "long": SECRET})
    assert list(search.feed(base64.b64encode(noise) + noise.hex().encode())) == []


def test_one_occurrence_in_base64_is_told_once():
    search = SecretSearch.of({"key": "a-plain-password"})
    assert len(list(search.feed(base64.b64encode(b"a-plain-password")))) == 1
