"""Puts the directory of a set into a bucket."""

from pathlib import Path

from tests.support.bucket_server import BucketServer


def upload(server: BucketServer, root: Path, url: str) -> str:
    """Put every file of a directory under a `gs://` URL, and return the URL."""
    for path in sorted(root.rglob("*")):
        if path.is_file():
            server.put(f"{url.removeprefix('gs://')}/{path.relative_to(root)}", path.read_bytes())
    return url
