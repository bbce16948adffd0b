"""The objective of a search that must be in its middle when a worker is lost."""


def evaluate(params, context):
    """x; the first trial on worker-2 never ends, and later ones elsewhere begin when it has begun."""
    import socket
    import time
    from pathlib import Path

    held = Path("/runs/held")
    if socket.gethostname() == "worker-2":
        held.write_text(str(context.number))
        time.sleep(3600)
    while context.number >= 4 and not held.exists():
        time.sleep(0.1)
    return params["x"]
