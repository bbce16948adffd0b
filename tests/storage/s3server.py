"""A real S3 server on loopback, and a proxy before it that fails on request."""

import contextlib
import http.client
import socket
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

# It ends when this process does, however that ends: its input is closed then.
_SERVER = """
import os, sys, threading
threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()
from moto.server import main
main(["-H", "127.0.0.1", "-p", sys.argv[1]])
"""


class Server:
    """The server, in a process of its own; it keeps its files in memory."""

    def __init__(self):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"

    def start(self):
        self.process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", _SERVER, str(self.port)],
            stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        deadline = time.monotonic() + 30
        while self.process.poll() is None and time.monotonic() < deadline:
            with contextlib.suppress(OSError):
                self.request("GET", "/moto-api/")
                return
            time.sleep(0.05)
        raise RuntimeError("the S3 server does not start")

    def stop(self):
        self.process.stdin.close()
        self.process.terminate()
        self.process.wait(timeout=10)

    def request(self, method, path, body=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request(method, path, body)
            answer = connection.getresponse()
            answer.read()
        finally:
            connection.close()
        return answer.status


@dataclass
class Fault:
    """What the proxy does to the next requests that match.

    Attributes:
        status: The answer; None cuts the connection.
        times: To how many requests.
        method, path: What it is in the request.
        after: Whether the request is passed on, and only its answer is lost.
        code, body: Of the answer.
    """

    status: int | None = 503
    times: int = 1
    method: str = ""
    path: str = ""
    after: bool = False
    code: str = "ServiceUnavailable"
    message: str = "Please try again"


class Proxy:
    """Passes requests on to a server, except those that it is told to fail."""

    def __init__(self, port):
        self.faults = []
        self.requests = []
        self._lock = threading.Lock()
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True
            do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = lambda self: proxy._handle(self, port)  # noqa: N815

            def log_message(self, *_):
                pass

        self._httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._httpd.daemon_threads = True
        self._httpd.handle_error = lambda *_: None  # a client that goes away
        self.url = f"http://127.0.0.1:{self._httpd.server_port}"
        self._thread = threading.Thread(target=self._httpd.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def stop(self):
        self._httpd.shutdown()
        self._httpd.server_close()
        self._thread.join()

    def fail(self, **fault):
        self.faults.append(Fault(**fault))

    def _next_fault(self, method, path):
        with self._lock:
            self.requests.append(f"{method} {path}")
            for fault in self.faults:
                if fault.times > 0 and fault.method in ("", method) and fault.path in path:
                    fault.times -= 1
                    return fault
        return None

    def _handle(self, handler, port):
        body = handler.rfile.read(int(handler.headers.get("Content-Length", 0)))
        fault = self._next_fault(handler.command, handler.path)
        if fault is None or fault.after:
            status, headers, content = _pass_on(handler, port, body)
        if fault is not None:
            if fault.status is None:
                handler.close_connection = True
                handler.connection.shutdown(socket.SHUT_RDWR)
                return
            status, headers = fault.status, [("Content-Type", "application/xml")]
            text = f"<Error><Code>{fault.code}</Code><Message>{fault.message}</Message></Error>"
            content = b"" if handler.command == "HEAD" else text.encode()
        handler.send_response_only(status)
        for name, value in headers:
            handler.send_header(name, value)
        if not any(name.lower() == "content-length" for name, _ in headers):
            handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        handler.wfile.write(content)


def _pass_on(handler, port, body):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.putrequest(handler.command, handler.path, skip_host=True, skip_accept_encoding=True)
        for name, value in handler.headers.items():
            if name.lower() not in ("connection", "expect"):
                connection.putheader(name, value)
        connection.endheaders(body)
        answer = connection.getresponse()
        content = answer.read()
    finally:
        connection.close()
    dropped = ("connection", "transfer-encoding", "server", "date")
    return answer.status, [(n, v) for n, v in answer.getheaders() if n.lower() not in dropped], content
