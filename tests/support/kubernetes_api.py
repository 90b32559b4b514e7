"""A small API server of Kubernetes on loopback, which answers what it is told."""

import contextlib
import json
import threading
from collections.abc import Collection, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

Answers = Mapping[str, dict[str, Any]]


@contextlib.contextmanager
def serve(answers: Answers, forbidden: Collection[str] = ()) -> Iterator[str]:
    """Serve objects by their paths; yields the server's address.

    Of a list, only items with the IP address of `fieldSelector` come, if it has one. Paths in `forbidden` are
    answered with 403, unknown ones with 404.
    """

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked = urlsplit(self.path)
            if asked.path in forbidden:
                return self._send(403, {"kind": "Status", "code": 403, "reason": "Forbidden"})
            if asked.path not in answers:
                return self._send(404, {"kind": "Status", "code": 404, "reason": "NotFound"})
            answer = dict(answers[asked.path])
            for selector in parse_qs(asked.query).get("fieldSelector", []):
                ip = selector.removeprefix("status.podIP=")
                answer["items"] = [item for item in answer["items"] if item["status"]["podIP"] == ip]
            return self._send(200, answer)

        def _send(self, code: int, answer: dict[str, Any]) -> None:
            body = json.dumps(answer).encode()
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *values: Any) -> None:
            """Write nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
