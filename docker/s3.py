"""An S3 server with one bucket, for trying things out: it keeps what it gets in memory and asks for no password."""

import sys
import threading
import urllib.request

from moto.server import ThreadedMotoServer


def main(bucket, port=9000):
    """Serve until the container ends."""
    server = ThreadedMotoServer("0.0.0.0", port)
    server.start()
    make = urllib.request.Request(f"http://127.0.0.1:{port}/{bucket}", method="PUT")
    urllib.request.urlopen(make, timeout=30).close()
    threading.Event().wait()


if __name__ == "__main__":
    main(*sys.argv[1:])
