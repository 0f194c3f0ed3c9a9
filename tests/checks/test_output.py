import pytest

from checks.output import lies

CUT = "CREATE TEMP TABLE cut (a int, b text);\nCOPY cut FROM stdin;\n1\tone\n2\ttwo\n3"


@pytest.mark.parametrize(
    "line",
    [
        "ERROR:  relation \"t\" does not exist",
        "psql:<stdin>:12: ERROR:  syntax error at or near \"x\"",
        "psql: error: connection to server failed",
        "FATAL:  terminating connection",
        "pg_restore: error: could not execute query: ERROR:  role \"r\" does not exist",
        "pg_restore: warning: errors ignored on restore: 3",
        "/usr/lib/postgresql/bin/pg_dump: error: query failed",
        "2026-11-22 21:04:03.123 GMT [77] PANIC:  could not write to log file",
        "2026-11-22 21:04:03.123 P00  ERROR: [055]: unable to open missing file",
        "2026/11/22 21:04:03 ERROR : a/key: Failed to copy",
        "2026-11-22 21:04:03,1 [4711] barman.cli ERROR: no such server",
        "  status: error",
    ],
)  # fmt: skip
def test_a_line_that_tells_of_an_error_is_found(line):
    (finding,) = lies(f"pg_restore: warning: something\n{line}\n", "psql")
    assert (finding.code, finding.where, finding.count) == ("EXIT-CODE-LIED", "psql", 1)
    assert line.strip() in finding.seen


@pytest.mark.parametrize(
    "line",
    [
        "WARNING:  there is no transaction in progress",
        "NOTICE:  table \"error\" does not exist, skipping",
        "pg_restore: warning: errors ignored on restore: 0",
        "pg_dump: warning: there are circular foreign-key constraints",
        "CONTEXT:  COPY t, line 1: \"ERROR: quoted\"",
        "DETAIL:  Failing row contains (1, FATAL: text).",
        "2026/11/22 21:04:03 INFO  : a/error: Copied (new)",
        "the job ended without an error",
        "",
    ],
)  # fmt: skip
def test_a_warning_or_a_quotation_is_none(line):
    assert lies(line, "psql") == []


def test_a_long_file_is_counted_and_shown_in_part(tmp_path):
    file = tmp_path / "stderr"
    file.write_bytes(b"\xff" + b"ERROR:  undecodable first byte\n" + b"ERROR:  again\n" * 9 + b"x" * 200_000)
    (finding,) = lies(file, "psql")
    assert finding.count == 9
    assert "… 6 more" in finding.seen


def test_a_password_verifier_is_not_shown():
    (finding,) = lies("ERROR:  syntax error near 'SCRAM-SHA-256$4096:c2FsdA==$a:b'", "psql")
    assert "c2FsdA" not in finding.seen


def test_psql_reports_success_on_a_dump_cut_in_the_middle_and_is_caught(server, processes, tmp_path):
    script = tmp_path / "cut.sql"
    for content, codes in ((CUT, ["EXIT-CODE-LIED"]), (CUT + "\tthree\n\\.\n", [])):
        script.write_text(content)
        argv = [server.tools.path("psql"), *server.connection_arguments(), "--dbname=postgres", "--no-psqlrc"]
        finished = processes.run(argv, timeout=20, env=server.environment(), stdin=script)
        assert finished.exit == 0
        assert [finding.code for finding in lies(finished.errors, "psql")] == codes
