import collections

from checks.forwarding import judge_forwarding, missing, written
from fixtures.receiving import digest_of


def log(service, *lines):
    return written(service, [b"".join(line + b"\n" for line in lines)])


def arrived(*lines):
    return collections.Counter(map(digest_of, lines))


def test_lines_are_cut_where_they_end_whatever_the_chunks():
    chunks = [b"a", b"b\nc", b"\n\n", b"d\r\nhalf a li", b"ne"]
    assert written("web", chunks).digests == [digest_of(line) for line in (b"ab", b"c", b"d")]


def test_what_arrived_once_is_no_finding():
    logs = [log("web", b"a", b"b"), log("job", b"a")]
    assert judge_forwarding(logs, arrived(b"a", b"b", b"a", b"the forwarder's own")) == []
    assert missing(logs, arrived(b"a", b"b", b"a")) == 0


def test_lost_lines_are_counted_by_service_with_the_first_and_the_last():
    logs = [log("web", b"a", b"b", b"c", b"d"), log("job", b"x")]
    (finding,) = judge_forwarding(logs, arrived(b"a", b"d", b"x"))
    assert (finding.code, finding.where, finding.count) == ("FORWARD-LOST", "web", 2)
    assert finding.seen == "2 of 4 lines never arrived, lines 2 to 3"
    assert missing(logs, arrived(b"a", b"d", b"x")) == 2


def test_a_line_that_arrives_altered_is_lost_and_the_other_is_told():
    (finding,) = judge_forwarding([log("web", b"a")], arrived(b"a "))
    assert finding.seen == "1 of 1 lines never arrived, line 1; 1 lines arrived that no service wrote"


def test_equal_lines_are_lost_by_their_number():
    (finding,) = judge_forwarding([log("web", b"a", b"a", b"a")], arrived(b"a", b"a"))
    assert (finding.code, finding.count) == ("FORWARD-LOST", 1)


def test_repeated_lines_are_a_notice_of_their_own():
    (finding,) = judge_forwarding([log("web", b"a", b"b")], arrived(b"a", b"b", b"b", b"b"))
    assert (finding.code, finding.count) == ("FORWARD-REPEATED", 1)
    assert finding.kind.severity == "notice"
