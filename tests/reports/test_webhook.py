"""What a chat is told of a run, and what becomes of it where the chat does not answer: against a server on loopback."""

import fcntl
import http.server
import json
import socket
import threading

import pytest

from reports import notice, webhook
from reports.__main__ import main
from reports.assessment import assess_run
from reports.evidence import write

SECRET = "/services/T0000/B0000/secret-of-the-channel"
HOSTILE = "<!here> <https://evil|x> @channel `*ok*` &amp; \x1b[31mred\x1b[0m \u202egnp.exe </script>\ud800"


class Chat(http.server.BaseHTTPRequestHandler):
    status, answer, location = 200, b"ok", ""

    def do_POST(self):
        self.server.taken.append((self.path, self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(self.server.status)
        if self.server.location:
            self.send_header("Location", self.server.location)
        self.send_header("Content-Length", str(len(self.server.answer)))
        self.end_headers()
        self.wfile.write(self.server.answer)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def chat(monkeypatch):
    """A chat that takes everything; its URL is in the environment."""
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy", webhook.FILE_VARIABLE):
        monkeypatch.delenv(name, raising=False)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Chat) as server:
        server.taken, server.status, server.answer, server.location = [], 200, b"ok", ""
        server.url = f"http://127.0.0.1:{server.server_port}{SECRET}"
        monkeypatch.setenv(webhook.VARIABLE, server.url)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def run(made, tmp_path):
    """A run below ``runs``, with its evidence and the name that the suite would give it."""

    def run(name="20261123T052040Z-dde2", **given):
        built = made(**given)
        (tmp_path / "runs").mkdir(exist_ok=True)
        directory = built.directory.rename(tmp_path / "runs" / name)
        if given.get("run_closed", 0) is not None:
            write(assess_run(directory), directory / "evidence.json")
        return directory

    return run


def told(chat):
    ((path, body),) = chat.taken
    assert path == SECRET
    return json.loads(body)


def test_a_failed_drill_is_told_with_what_failed_what_was_achieved_and_where_the_report_is(run, chat, capsys):
    directory = run(rto=1_000_000_000, uncaught=["index lost"])
    (directory / "report.html").touch()
    assert main(["notify", str(directory)]) == 0
    message = told(chat)
    header, *sections = message["blocks"]
    shown = "\n".join(section["text"]["text"] for section in sections)
    assert header["text"] == {"type": "plain_text", "text": "Restore drills: failed", "emoji": False}
    assert "recovery time 4.21 s (target 1 s, failed)" in shown
    assert "`RTO-EXCEEDED`" in shown and "remedy: `Shorten the longest phase" in shown
    assert "controls 10/11 caught; first of those that were not: `index lost`" in shown
    assert f"report: `{directory}/report.html`" in shown
    assert "a stand-in; not the Enprivacy product" in shown
    assert message["text"].splitlines()[0] == "Restore drills: failed"
    assert capsys.readouterr().out == f"told       {directory.name}: Restore drills: failed\n"


def test_a_run_that_passed_is_told_only_when_asked(run, chat, capsys):
    directory = str(run())
    assert main(["notify", directory]) == 0 and chat.taken == []
    assert "not told" in capsys.readouterr().out
    assert main(["notify", directory, "--always"]) == 0
    assert "recovery time 4.21 s (no target)" in told(chat)["text"]


def test_an_aborted_run_is_told(run, chat):
    assert main(["notify", str(run(drill_closed=None, run_closed=None))]) == 0
    assert told(chat)["text"].startswith("Restore drills: aborted\n")


def test_a_run_that_pytest_failed_is_told_although_its_drills_passed(run, chat):
    assert main(["notify", str(run(run_closed=1))]) == 0
    assert told(chat)["text"].startswith("Restore drills: failed\n")


def test_a_run_whose_evidence_cannot_be_read_is_told(run, chat):
    directory = run()
    (directory / "evidence.json").write_text('{"verdict": "passed"}')
    assert main(["notify", str(directory)]) == 0
    assert "the record of a run cannot be read" in told(chat)["text"]


@pytest.mark.parametrize(("decision", "count"), [("go", 0), ("no-go", 1), ("undecided", 1)])
def test_a_gate_that_does_not_say_go_is_told_with_its_reasons(run, chat, decision, count):
    directory = run()
    reason = {"what": "targets", "verdict": "failed", "seen": "unset", "remedy": "set them", "code": "TARGETS-UNSET"}
    (directory / "gate.json").write_text(json.dumps({"decision": decision, "reasons": [reason]}))
    assert main(["notify", str(directory)]) == 0
    assert len(chat.taken) == count
    if count:
        assert told(chat)["text"].startswith(f"Gate before an upgrade: {decision}\n")
        assert "`TARGETS-UNSET` `targets`: `unset`\nremedy: `set them`" in told(chat)["text"]


@pytest.mark.parametrize(
    "gate", ['{"decision": "<!here>", "reasons": []}', "[]", "{", '{"decision": "no-go", "reasons": [1]}']
)
def test_a_gate_that_cannot_be_read_is_told_as_that(run, chat, gate):
    directory = run()
    (directory / "gate.json").write_text(gate)
    assert main(["notify", str(directory)]) == 0
    assert "the record of a run cannot be read" in told(chat)["text"] and "<" not in told(chat)["text"]


@pytest.mark.parametrize("since", ["20261123T052040Z", "2026-11-23T06:20:40+01:00", "2026-11-23T05:20:40"])
def test_since_takes_the_runs_begun_then_or_later(run, chat, since, capsys):
    run("20261123T052039Z-aaaa", rto=1)
    run("20261123T052040Z-bbbb", rto=1)
    runs = run("20261124T000000Z-cccc").parent
    assert main(["notify", str(runs), "--since", since]) == 0
    assert f"report: `{runs}/20261123T052040Z-bbbb`" in told(chat)["text"]
    assert capsys.readouterr().out.splitlines() == [
        "told       20261123T052040Z-bbbb: Restore drills: failed",
        "not told   20261124T000000Z-cccc: Restore drills: passed",
    ]


def test_a_run_still_at_work_is_not_told_as_aborted(run, chat, capsys):
    directory = run(drill_closed=None, run_closed=None)
    with (directory / "journal.jsonl").open("rb+") as journal:
        fcntl.flock(journal, fcntl.LOCK_EX)
        assert main(["notify", str(directory.parent), "--since", "20261123T052040Z"]) == 0
    assert chat.taken == [] and "still at work" in capsys.readouterr().out


def test_no_run_since_then_is_told(tmp_path, chat):
    assert main(["notify", str(tmp_path / "absent"), "--since", "20261123T052040Z"]) == 0
    assert "no run was recorded" in told(chat)["text"]


def test_a_link_names_the_run(run, chat):
    directory = run(rto=1)
    assert main(["notify", str(directory), "--link", "https://ci.example/browse?a=1&run={run}"]) == 0
    assert f"report: <https://ci.example/browse?a=1&amp;run={directory.name}>" in told(chat)["text"]


@pytest.mark.parametrize("link", ["javascript:alert(1)", "https://a/> <!here", "https://a/" + "x" * 600])
def test_what_is_no_link_is_refused(run, chat, link, capsys):
    assert main(["notify", str(run()), "--link", link]) == 4
    assert chat.taken == [] and "--link" in capsys.readouterr().err


def test_hostile_text_is_escaped_and_bounded(run, chat):
    many = [{"code": "ROWS-LOST", "seen": f"{n} {HOSTILE}" + "A" * 1_000_000} for n in range(40)]
    # What it holds of lone surrogates no evidence can hold; the escaping is held against them below.
    text = HOSTILE.replace("\ud800", "")
    findings = [{**each, "seen": each["seen"].replace("\ud800", "")} for each in many]
    assert main(["notify", str(run(text=text, findings=findings, uncaught=["index lost"]))]) == 0
    message = told(chat)
    texts = [block["text"]["text"] for block in message["blocks"]]
    assert len(message["blocks"]) <= 50 and all(len(each) <= 3_000 for each in texts)
    assert sum(map(len, texts)) <= 10_000 and len(message["text"]) <= 4_000
    for shown in [*texts, message["text"]]:
        assert "<" not in shown and "@channel" not in shown and "\x1b" not in shown and "\u202e" not in shown


def test_foreign_text_is_one_piece_of_code():
    shown = notice.foreign(HOSTILE)
    assert shown[0] == shown[-1] == "`" and shown.count("`") == 2
    assert "&lt;!here&gt;" in shown and "＠channel" in shown and "&amp;amp;" in shown and "&lt;U+D800&gt;" in shown
    assert notice.foreign("") == "` `"


def test_the_longest_line_fits_a_section(run, chat):
    worst = notice.foreign("&" * 10_000)
    lines = tuple(f"{worst} {notice.foreign('<' * 500, 100)} {notice.foreign('>' * 500, 100)}" for _ in range(60))
    blocks = webhook.payload(notice.Notice(bad=True, title="&" * 9_000, lines=lines))["blocks"]
    assert len(blocks[0]["text"]["text"]) <= 150
    assert max(len(block["text"]["text"]) for block in blocks[1:]) <= 3_000
    assert blocks[-1]["text"]["text"].endswith("the rest is in the report")


@pytest.mark.parametrize(
    ("status", "answer", "said"),
    [
        (500, b"out of order", "HTTP 500: out of order"),
        (404, SECRET.encode(), "HTTP 404: /[redacted]"),
        (400, b"\x1b[2J\xff" * 500, "HTTP 400: "),
    ],
)
def test_what_the_chat_does_not_take_is_said_without_the_secret(run, chat, status, answer, said, capsys):
    chat.status, chat.answer = status, answer
    assert main(["notify", str(run(rto=1))]) == 1
    shown = capsys.readouterr()
    assert said in shown.err and "NOT TAKEN" in shown.err
    assert "secret-of-the-channel" not in shown.out + shown.err and "\x1b" not in shown.err
    assert len(chat.taken) == 1 and len(shown.err) < 1_000


def test_a_redirect_is_not_followed(run, chat, capsys):
    chat.status, chat.location = 307, f"http://127.0.0.1:{chat.server_port}/elsewhere"
    assert main(["notify", str(run(rto=1))]) == 1
    assert len(chat.taken) == 1 and "redirects are not followed" in capsys.readouterr().err


def test_a_port_where_nobody_listens_is_said(run, chat, monkeypatch, capsys):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setenv(webhook.VARIABLE, f"http://127.0.0.1:{free.getsockname()[1]}{SECRET}")
        assert main(["notify", str(run(rto=1))]) == 1
    said = capsys.readouterr().err
    assert "ConnectError" in said and "secret" not in said


def drip(server, stop):
    """Answer one byte at a time: no single read ever waits long."""
    connection, _ = server.accept()
    with connection:
        connection.settimeout(5)
        for byte in b"HTTP/1.1 200 OK\r\n" + b"X-Slow: " + b"x" * 10_000:
            if stop.wait(0.05):
                return
            connection.sendall(bytes([byte]))


@pytest.mark.parametrize("answers", [False, True], ids=["silent", "dripping"])
def test_a_chat_that_does_not_come_to_an_end_is_given_up(run, chat, monkeypatch, capsys, answers):
    monkeypatch.setattr(webhook, "SECONDS", 0.4)
    stop = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv(webhook.VARIABLE, f"http://127.0.0.1:{server.getsockname()[1]}{SECRET}")
        thread = threading.Thread(target=drip, args=(server, stop)) if answers else None
        if thread:
            thread.start()
        assert main(["notify", str(run(rto=1))]) == 1
        stop.set()
        if thread:
            thread.join()
    assert "no answer within 0.4 s" in capsys.readouterr().err


def test_a_proxy_that_the_environment_names_is_used(run, chat, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{chat.server_port}")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.setenv(webhook.VARIABLE, "http://localhost:9" + SECRET)
    assert main(["notify", str(run(rto=1))]) == 0
    assert chat.taken[0][0] == "http://localhost:9" + SECRET


def test_the_webhook_may_stand_in_a_file(run, chat, monkeypatch, tmp_path):
    (tmp_path / "webhook").write_text(chat.url + "\n")
    monkeypatch.delenv(webhook.VARIABLE)
    monkeypatch.setenv(webhook.FILE_VARIABLE, str(tmp_path / "webhook"))
    assert main(["notify", str(run(rto=1))]) == 0 and len(chat.taken) == 1


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"ENPRIVACY_WEBHOOK": "", "ENPRIVACY_WEBHOOK_FILE": ""},
        {"ENPRIVACY_WEBHOOK": "https://a/hidden-path", "ENPRIVACY_WEBHOOK_FILE": "/etc/hostname"},
        {"ENPRIVACY_WEBHOOK_FILE": "/nowhere"},
        {"ENPRIVACY_WEBHOOK_FILE": "/"},
        {"ENPRIVACY_WEBHOOK": "hooks.example/hidden-path"},
        {"ENPRIVACY_WEBHOOK": "file:///etc/hidden-path"},
        {"ENPRIVACY_WEBHOOK": "http://hooks.example/hidden-path"},
        {"ENPRIVACY_WEBHOOK": "https://hooks.example:port/hidden-path"},
        {"ENPRIVACY_WEBHOOK": "https://[::1/hidden-path"},
        {"ENPRIVACY_WEBHOOK": "https://hooks.example/hidden-path and more"},
        {"ENPRIVACY_WEBHOOK": "https://hooks.example/hidden-path\nX-Header: 1"},
        {"ENPRIVACY_WEBHOOK": "https://hooks.example/hidden-path" + "x" * 5_000},
    ],
    ids=str,
)
def test_a_webhook_that_cannot_be_used_is_refused_before_anything_is_read(environment, monkeypatch, tmp_path, capsys):
    for name in (webhook.VARIABLE, webhook.FILE_VARIABLE):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert main(["notify", str(tmp_path)]) == 4
    said = capsys.readouterr().err
    assert said.startswith("cannot notify: ") and "ENPRIVACY_WEBHOOK" in said and "hidden" not in said


@pytest.mark.parametrize("arguments", [["DIR"], ["DIR", "--since", "yesterday"], ["DIR/absent"]])
def test_input_that_cannot_be_used_is_refused_in_one_line(chat, tmp_path, capsys, arguments):
    assert main(["notify", *(word.replace("DIR", str(tmp_path)) for word in arguments)]) == 4
    assert capsys.readouterr().err.count("\n") == 1 and chat.taken == []
