from checks.configuration import check_sealed, compare_configuration, digest_configuration

VALUES = {"PORT": "8080", "SECRET": "hunter22", "EMPTY": ""}


def test_an_equal_configuration_is_silent_and_shows_no_value():
    digests = digest_configuration(VALUES, b"key")
    assert compare_configuration(digests, digest_configuration(dict(reversed(VALUES.items())), b"key")) == []
    assert "hunter22" not in str(digests)
    assert digests != digest_configuration(VALUES, b"another key")


def test_lost_altered_and_unexpected_variables_are_named():
    after = {"SECRET": "hunter23", "EMPTY": "", "NEW": "1"}
    findings = compare_configuration(digest_configuration(VALUES, b"key"), digest_configuration(after, b"key"))
    assert [(finding.code, finding.seen) for finding in findings] == [
        ("CONFIGURATION-LOST", "variables: PORT"),
        ("CONFIGURATION-ALTERED", "variables: SECRET"),
        ("CONFIGURATION-UNEXPECTED", "variables: NEW"),
    ]


def test_two_variables_of_one_value_do_not_show_that_they_are_equal():
    digests = digest_configuration({"A": "x", "B": "x"}, b"key")
    assert digests["A"] != digests["B"]


def test_a_secret_that_opens_nothing_is_useless():
    (finding,), counts = check_sealed((f"row {n}", n % 2 == 0) for n in range(10))
    assert (finding.code, finding.count, counts) == ("SECRET-USELESS", 5, {"tried": 10, "opened": 5})


def test_nothing_sealed_is_no_finding_and_a_count_of_nothing():
    assert check_sealed([]) == ([], {"tried": 0, "opened": 0})
