"""Make data/titanic.csv from the copy of titanic3 that the pinned scikit-learn wheel carries (`make dataset`).

The wheel ships it as test data, so the path is private: it is checked by hash, and so is the result.
"""

import csv
import gzip
import hashlib
import io
from importlib.resources import files

from course.data import EMBEDDED, SHA256

SOURCE = "datasets/tests/data/openml/id_40945/data-v1-dl-16826755.arff.gz"
SOURCE_SHA256 = "516e961f519876e5f89b339a0364a08dd64160ac3a4d76d5ec62955bfd6d6ce5"


def make() -> bytes:
    """The table as CSV bytes: ARFF's own field texts, a question mark (unknown) becomes an empty field."""
    packed = files("sklearn").joinpath(SOURCE).read_bytes()
    _check("the scikit-learn wheel's copy", packed, SOURCE_SHA256)
    head, _, body = gzip.decompress(packed).decode("utf-8").partition("@data\n")
    columns = [line.split("'")[1] for line in head.splitlines() if line.startswith("@attribute")]
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(columns)
    for row in csv.reader(io.StringIO(body)):
        writer.writerow(["" if field == "?" else field for field in row])
    table = out.getvalue().encode("utf-8")
    _check("the table made from it", table, SHA256)
    return table


def _check(what: str, content: bytes, expected: str) -> None:
    got = hashlib.sha256(content).hexdigest()
    if got != expected:
        raise SystemExit(f"{what}: expected SHA-256 {expected}, got {got}; install the pinned requirements.txt")


if __name__ == "__main__":
    EMBEDDED.write_bytes(make())
    print(f"{EMBEDDED.name}: {EMBEDDED.stat().st_size} bytes, SHA-256 {SHA256}")
