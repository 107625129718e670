"""`make links` against a server of its own: what answers, what does not, and what is not asked."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tools import links
from tools.lessons import address


class Site(BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.asked.append(self.path)
        kind = self.path.strip("/")
        if kind == "slow":
            self.server.over.wait(5)
            return
        if kind == "moved":
            self.send_response(301)
            self.send_header("Location", "/good")
        else:
            self.send_response({"good": 200, "shy": 403}.get(kind, 404))
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture(autouse=True)
def without_a_proxy(monkeypatch):
    """What is asked here is on this machine, which a proxy does not reach."""
    monkeypatch.setenv("no_proxy", "*")


@pytest.fixture
def site():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Site)
    server.asked, server.over = [], threading.Event()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.over.set()
    server.shutdown()
    server.server_close()
    thread.join()


def test_links_are_asked_once_and_failures_are_named(site, capsys, monkeypatch):
    base = f"http://127.0.0.1:{site.server_port}"
    page = f"[a]({base}/good#top) and ({base}/moved). {base}/gone, `{base}/slow` [own]({address()}/x) {base}/shy"
    monkeypatch.setattr(links, "texts", lambda: {"a.md": page, "b.md": f"<{base}/gone>, {base}/good"})
    monkeypatch.setattr("sys.argv", ["links", "--timeout", "0.3"])
    assert links.main() == 1
    refused, broken = capsys.readouterr().out.split("These do not answer:")
    assert "5 links, 2 answer" in refused and "403" in refused and "/shy" in refused
    rows = [line.split() for line in broken.strip().splitlines()[1:]]
    assert {(row[0], row[-2], row[-1]) for row in rows} == {
        ("404", f"{base}/gone", "a.md"),
        ("timed", f"{base}/slow", "a.md"),
    }
    assert sorted(set(site.asked)) == ["/gone", "/good", "/moved", "/shy", "/slow"] and site.asked.count("/gone") == 1


def test_a_host_that_is_not_there_is_an_answer_too():
    assert "refused" in links.answer("http://127.0.0.1:1/", 1.0)
    assert isinstance(links.answer("http://[::1", 1.0), str)


def test_every_kind_of_page_is_read():
    read = links.texts()
    for path in ("README.md", "data/README.md", ".github/SECURITY.md", "course/convnet.py", "rosetta/messages.py",
                 "notebooks/src/08_tracing.py", "notebooks/src/exercises/08_tracing.py"):  # fmt: skip
        assert path in read
    assert len({url for text in read.values() for url in links.links_of(text)}) > 100
