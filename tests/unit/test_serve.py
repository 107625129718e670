"""The service of lesson 15: what it refuses and how, that it keeps its limits, and that it stops."""

import hashlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

from course import serve

pytest.importorskip("flatbuffers")
pytest.importorskip("uvicorn")
TestClient = pytest.importorskip("starlette.testclient").TestClient
WEIGHTS = np.random.default_rng(0).normal(size=(3, 2)).astype(np.float32)


def write(path, f=lambda x: jnp.tanh(x @ WEIGHTS), batch="b", row=(3,), dtype=jnp.float32, **options):
    sizes = export.symbolic_shape(batch) if isinstance(batch, str) else (batch,)
    serve.save(export.export(jax.jit(f), **options)(jax.ShapeDtypeStruct((*sizes, *row), dtype)), path)
    return path


def written(path, data, **manifest):
    """A program's file with any bytes, and the manifest that goes with them."""
    path.write_bytes(data)
    manifest = {"sha256": hashlib.sha256(data).hexdigest(), "jax": jax.__version_info__, **manifest}
    path.with_suffix(".json").write_text(json.dumps(manifest))
    return path


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return write(tmp_path_factory.mktemp("program") / "model.jax")


@pytest.fixture(scope="module")
def program(path):
    return serve.Program(path, (1, 4, 16))


@pytest.fixture(scope="module")
def client(program):
    with TestClient(serve.application(program)) as client:
        yield client


# --- programs ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [1, 2, 4, 5, 15, 16])
def test_a_padded_batch_has_the_same_predictions(program, rows):
    x = np.random.default_rng(rows).normal(size=(rows, 3)).astype(np.float32)
    got = program(x)
    assert got.dtype == np.float32 and got.shape == (rows, 2)
    np.testing.assert_allclose(got, np.tanh(x @ WEIGHTS), atol=1e-6)


def test_only_the_named_sizes_are_compiled(program):
    assert program.sizes == (1, 4, 16) == tuple(program._compiled) and program.rows == 16


@pytest.mark.parametrize("shape", [(0, 3), (17, 3), (3,), (2, 4), ()])
def test_a_program_refuses_another_shape(program, shape):
    with pytest.raises(ValueError, match=r"expected 1 to 16 rows of shape \(3,\), got .*; split the batch"):
        program(np.zeros(shape, np.float32))


def test_rows_may_have_any_shape(tmp_path):
    program = serve.Program(write(tmp_path / "p", lambda x: x.sum((1, 2)), row=(2, 2)), [2])
    assert program(np.ones((1, 2, 2), np.float32)).tolist() == [4.0]


@pytest.mark.parametrize(
    "options",
    [
        {"batch": 4},
        {"dtype": jnp.int32},
        {"f": jnp.sum},
        {"f": lambda x: (x, x)},
        {"f": lambda x: x[0]},
        {"f": lambda x: {"logits": x}},
        {"f": lambda x: x.astype(jnp.bfloat16)},
        {"f": lambda x: x * 1j},
    ],
    ids=["fixed", "dtype", "no batch in the result", "two results", "one row", "a dict", "bfloat16", "complex"],
)
def test_a_program_of_another_form_is_refused(tmp_path, options):
    options = {"f": lambda x: x, **options}
    with pytest.raises(ValueError, match=r"expected one argument \(b, \.\.\.\) float32 .*, got .*; export with"):
        serve.Program(write(tmp_path / "p", **options))


@pytest.mark.parametrize("arguments", ["two", "named", "in a dict"])
def test_a_program_of_other_arguments_is_refused(tmp_path, arguments):
    x = jax.ShapeDtypeStruct((*export.symbolic_shape("b"), 3), jnp.float32)
    match arguments:
        case "two":
            exported = export.export(jax.jit(lambda x, y: x + y))(x, x)
        case "named":
            exported = export.export(jax.jit(lambda *, x: x))(x=x)
        case _:
            exported = export.export(jax.jit(lambda batch: batch["x"]))({"x": x})
    serve.save(exported, tmp_path / "p")
    with pytest.raises(ValueError, match=r"expected one argument \(b, \.\.\.\) float32 .*, got .*; export with"):
        serve.Program(tmp_path / "p")


@pytest.mark.parametrize("content", [b"", b"hello", b"\0" * 1000, bytes(range(256)) * 10])
def test_what_is_no_program_is_refused(tmp_path, content):
    with pytest.raises(ValueError, match=r"expected a program of jax\.export, got"):
        serve.Program(written(tmp_path / "p", content))


def test_a_truncated_program_is_refused(tmp_path, path):
    data = path.read_bytes()
    for end in range(0, len(data) // 2, len(data) // 7):
        with pytest.raises(ValueError, match="expected a program"):
            serve.Program(written(tmp_path / "p", data[:end]))


def test_a_flipped_bit_is_found_before_jax_sees_it(tmp_path, path, monkeypatch):
    data = path.read_bytes()
    sha256 = hashlib.sha256(data).hexdigest()
    written(tmp_path / "p", data[:-1] + bytes([data[-1] ^ 1]), sha256=sha256)
    monkeypatch.setattr(export, "deserialize", None)
    with pytest.raises(ValueError, match=f"expected the SHA-256 {sha256}, got .*; copy both files again"):
        serve.Program(tmp_path / "p")


def test_a_program_of_a_newer_jax_is_refused(tmp_path, path):
    newer = [*jax.__version_info__[:2], jax.__version_info__[2] + 1]
    with pytest.raises(ValueError, match=r"or older, got one of .*; upgrade JAX here first"):
        serve.Program(written(tmp_path / "p", path.read_bytes(), jax=newer))
    assert serve.Program(written(tmp_path / "p", path.read_bytes(), jax=[0, 6, 0]), [1]).sizes == (1,)


@pytest.mark.parametrize("manifest", ["", "[]", "{}", '{"sha256": "a"}', '{"sha256": "a", "jax": "b"}', "\xff"])
def test_another_manifest_is_refused(tmp_path, path, manifest):
    written(tmp_path / "p", path.read_bytes()).with_suffix(".json").write_text(manifest, "latin-1")
    with pytest.raises(ValueError, match=r"p\.json: expected .*, got something else; write both files by"):
        serve.Program(tmp_path / "p")


def test_without_a_manifest_nothing_is_loaded(tmp_path, path):
    written(tmp_path / "p", path.read_bytes()).with_suffix(".json").unlink()
    with pytest.raises(FileNotFoundError):
        serve.Program(tmp_path / "p")


def test_the_manifests_name_is_no_programs(tmp_path):
    with pytest.raises(ValueError, match=r"expected a name for the program, got p.json; .* take .jax"):
        write(tmp_path / "p.json")


def test_a_program_for_another_platform_is_refused(tmp_path):
    other = "tpu" if jax.default_backend() == "cpu" else "cpu"
    with pytest.raises(ValueError, match=rf"expected a program for .*, got one for {other}; export it with"):
        serve.Program(write(tmp_path / "p", platforms=(other,)))


@pytest.mark.parametrize("sizes", [(), (0, 4)])
def test_sizes_are_positive(path, sizes):
    with pytest.raises(ValueError, match="expected batch sizes from 1 on"):
        serve.Program(path, sizes)


# --- requests ------------------------------------------------------------------------------------------------------


def test_predictions_are_the_programs(client, program):
    x = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    answer = client.post("/predict", json={"rows": x.tolist()})
    assert answer.status_code == 200
    assert np.array_equal(np.float32(answer.json()["predictions"]), program(x))


def test_health_says_what_is_served(client):
    answer = client.get("/health")
    assert answer.status_code == 200 and answer.json() == {
        "status": "ok", "row": [3], "rows": 16, "body": 1_000_000, "jax": jax.__version__
    }  # fmt: skip


def rows(*values):
    return ('{"rows": [[' + ", ".join(values) + "]]}").encode()


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "expected JSON, got 0 bytes"),
        (b"{", "expected JSON"),
        (b"\xff\xfe{", "expected JSON"),
        (b"[" * 100_000, "lists within lists without an end"),
        (b'{"rows": ' + b"[" * 300 + b"]" * 300 + b"}", "expected 1 to 16 rows"),
        (b"3", 'the key "rows", got a int'),
        (b"[[1, 2, 3]]", 'the key "rows", got a list'),
        (b'{"instances": [[1, 2, 3]]}', "got the keys ['instances']"),
        (b'{"rows": [[1, 2, 3]], "more": 1}', "got the keys ['more', 'rows']"),
        (b'{"rows": 3}', "got a int"),
        (b'{"rows": {"a": 1}}', "got a dict"),
        (b'{"rows": "aaa"}', "got a str"),
        (b'{"rows": []}', "got 0 rows; send"),
        (json.dumps({"rows": [[0, 0, 0]] * 17}).encode(), "got 17 rows; split the batch"),
        (b'{"rows": [1, 2, 3]}', "got rows of shape ()"),
        (b'{"rows": [[1, 2, 3], [1, 2]]}', "got lists of unequal length"),
        (b'{"rows": [[[1, 2], [3]], [1, 2]]}', "unequal"),
        (rows("1", "2", "[]"), "unequal"),
        (rows("1", "2"), "got rows of shape (2,)"),
        (rows("1", "2", "NaN"), "NaN is no number in JSON"),
        (rows("1", "2", "-Infinity"), "-Infinity is no number"),
        (rows("1", "2", "1e999"), "numbers that float32 holds"),
        (rows("1", "2", "1e39"), "numbers that float32 holds"),
        (rows("1", "2", "9" * 400), "numbers that float32 holds"),
        (rows("1", "2", "9" * 5000), "expected JSON"),
        (rows("1", "2", "true"), "expected numbers, got bool"),
        (rows("1", "2", '"3"'), "expected numbers, got str"),
        (rows("1", "2", "null"), "expected numbers, got NoneType"),
        (rows("1", "2", "{}"), "expected numbers, got dict"),
    ],
)
def test_bad_input_gets_422_and_a_message(client, body, message):
    answer = client.post("/predict", content=body)
    assert answer.status_code == 422
    text = answer.json()["error"]
    assert text.startswith("expected") and message in text and "; " in text and len(text) < 400, text


def test_a_long_body_gets_413(client):
    answer = client.post("/predict", content=b" " * 1_000_001)
    assert answer.status_code == 413 and "expected at most 1000000 bytes" in answer.json()["error"]


@pytest.mark.parametrize(
    ("method", "url", "status"),
    [
        ("GET", "/predict", 405),
        ("PUT", "/predict", 405),
        ("POST", "/health", 405),
        ("GET", "/", 404),
        ("POST", "/x" * 999, 404),
    ],
)
def test_other_requests_are_refused(client, method, url, status):
    answer = client.request(method, url)
    text = answer.json()["error"]
    assert answer.status_code == status and len(text) < 200
    assert text.startswith(f"expected POST /predict or GET /health, got {method} {url[:50]}")
    assert ("Allow" in answer.headers) == (status == 405)


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "nonsense", ""])
def test_only_the_body_counts_whatever_its_type_is_said_to_be(client, kind):
    answer = client.post("/predict", content=rows("1", "2", "3"), headers={"Content-Type": kind})
    assert answer.status_code == 200
    answer = client.post("/predict", content=b"rows=1", headers={"Content-Type": kind})
    assert answer.status_code == 422 and "expected JSON" in answer.json()["error"]


@pytest.mark.parametrize("error", [ValueError, RuntimeError, TimeoutError, MemoryError])
def test_a_model_that_fails_is_no_fault_of_the_clients(error, capsys):
    class Failing:
        row, rows = (3,), 4

        def __call__(self, x):
            raise error("inside of it")

    with TestClient(serve.application(Failing())) as client:
        answer = client.post("/predict", content=rows("1", "2", "3"))
        assert client.get("/health").status_code == 200
    if error is TimeoutError:
        assert answer.status_code == 503
        return
    assert answer.status_code == 500
    assert answer.json()["error"].startswith(f"expected predictions, got {error.__name__} from the model; ")
    assert "inside of it" in capsys.readouterr().err and "inside of it" not in answer.text


class Slow:
    """A model that takes its time, and says when it began."""

    row, rows = (1,), 4

    def __init__(self, seconds, value=0.0):
        self.seconds, self.value, self.began = seconds, value, threading.Event()

    def __call__(self, x):
        self.began.set()
        time.sleep(self.seconds)
        return np.full(len(x), self.value, np.float32)


def test_a_busy_service_says_so():
    with TestClient(serve.application(Slow(0.5), serve.Limits(answer_s=0.05))) as client:
        answer = client.post("/predict", content=b'{"rows": [[1]]}')
    assert answer.status_code == 503 and answer.headers["Retry-After"] == "1"


def test_predictions_that_are_no_numbers_are_not_sent():
    with TestClient(serve.application(Slow(0, np.nan))) as client:
        answer = client.post("/predict", content=b'{"rows": [[1]]}')
    assert answer.status_code == 422 and "finite predictions" in answer.json()["error"]


# --- the process ---------------------------------------------------------------------------------------------------


def start(path, *more):
    command = [sys.executable, serve.__file__, str(path), "--port", "0", *more]
    # -I would hide an editable course as well; the file is run by its path, and imports nothing of the course
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONPATH": ""}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


@pytest.fixture(scope="module")
def served(path):
    with start(path) as process:
        port = int(process.stdout.readline().rpartition(":")[2])
        yield process, port
        process.kill()


def ask(port, method, url, body=None, timeout=5):
    link = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        link.request(method, url, body)
        answer = link.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        link.close()


@pytest.mark.slow
def test_the_service_listens_on_the_loopback_address_alone(served):
    _, port = served
    status, answer = ask(port, "POST", "/predict", '{"rows": [[1, 2, 3]]}')
    assert status == 200
    np.testing.assert_allclose(answer["predictions"], np.tanh(np.float32([[1, 2, 3]]) @ WEIGHTS), atol=1e-6)
    table = "/proc/net/tcp"
    if not os.path.exists(table):
        pytest.skip("the system has no table of listening sockets")
    with open(table) as file:
        listening = [line.split()[1] for line in list(file)[1:] if line.split()[3] == "0A"]
    assert [place for place in listening if place.endswith(f":{port:04X}")] == [f"0100007F:{port:04X}"]


@pytest.mark.slow
def test_a_slow_client_is_cut_off_and_others_are_served_meanwhile(served):
    _, port = served
    with socket.create_connection(("127.0.0.1", port), 20) as slow:
        slow.sendall(b"POST /predict HTTP/1.1\r\nHost: here\r\nContent-Length: 100\r\n\r\n{")
        assert ask(port, "GET", "/health", timeout=2)[0] == 200
        assert b"408 Request Timeout" in slow.recv(1000)


@pytest.mark.slow
def test_a_client_that_goes_away_harms_nobody(served):
    process, port = served
    for sent in (b"", b"nonsense\r\n\r\n", b"POST /predict HTTP/1.1\r\nHost: here\r\nContent-Length: 9\r\n\r\n{"):
        with socket.create_connection(("127.0.0.1", port), 5) as gone:
            gone.sendall(sent)
    assert ask(port, "GET", "/health")[0] == 200 and process.poll() is None


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGTERM")
def test_it_stops_when_asked_and_leaves_nothing(served):
    process, port = served
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 0 and "Traceback" not in process.stderr.read()
    with pytest.raises(OSError):
        socket.create_connection(("127.0.0.1", port), 1)


@pytest.mark.slow
def test_a_request_under_way_is_answered_before_the_stop():
    uvicorn, model = pytest.importorskip("uvicorn"), Slow(0.5)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        config = uvicorn.Config(serve.application(model), lifespan="on", log_config=None, ws="none")
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        link = http.client.HTTPConnection("127.0.0.1", listener.getsockname()[1], timeout=10)
        link.request("POST", "/predict", '{"rows": [[1]]}')
        assert model.began.wait(5)
        server.should_exit = True
        assert link.getresponse().status == 200
        link.close()
        thread.join(10)
        assert not thread.is_alive()


def test_a_port_in_use_and_a_missing_file_are_named(path, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert serve.main([str(path), "--port", port]) == 2
    assert f"expected port {port} to be free, got" in capsys.readouterr().err
    assert serve.main([str(path), "--port", "70000"]) == 2
    assert "expected a port from 0 to 65535, got 70000" in capsys.readouterr().err
    assert serve.main([str(tmp_path / "none")]) == 2
    assert "expected a program in" in capsys.readouterr().err
    assert serve.main([str(tmp_path)]) == 2
    assert "expected a program in" in capsys.readouterr().err
    written(tmp_path / "text", b"hello")
    assert serve.main([str(tmp_path / "text")]) == 2
    assert "expected a program of jax.export" in capsys.readouterr().err
