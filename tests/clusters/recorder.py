"""A Kubernetes API server that starts nothing: it takes what a client wants to have, and remembers it."""

import contextlib
import json
import threading
import urllib.parse
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Recorder(ThreadingHTTPServer):
    """Remembers the objects that it was asked for; ``url`` is where."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.objects = []
        self.closing = threading.Event()

    def of_kind(self, kind):
        return [made for made in list(self.objects) if made["kind"] == kind]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        made = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.objects.append(json.loads(json.dumps(made)))
        made["metadata"] |= {"uid": str(uuid.uuid4()), "resourceVersion": "1"}
        self._answer(made)

    do_PATCH = do_PUT = do_POST  # noqa: N815 - the names that http.server calls

    def do_GET(self):
        address = urllib.parse.urlsplit(self.path)
        if "watch" in urllib.parse.parse_qs(address.query):  # nothing ever happens
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.server.closing.wait()
            self.close_connection = True
        else:
            self._answer({"kind": "List", "apiVersion": "v1", "metadata": {"resourceVersion": "1"}, "items": []})

    def do_DELETE(self):
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self._answer({"kind": "Status", "apiVersion": "v1", "status": "Success"})

    def _answer(self, body):
        content = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, form, *arguments):
        pass


@contextlib.contextmanager
def recorder():
    with Recorder() as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.closing.set()
            server.shutdown()
            thread.join()
