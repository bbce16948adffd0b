"""Tell whether the daemon of this container does its work, by exit code; a driver or executor does while it lives."""

import json
import sys
import urllib.request
from pathlib import Path

# A role's page, and what it must say there.
PAGES = {
    "master": ("http://localhost:8080/json/", lambda page: page["status"] == "ALIVE"),
    "worker": ("http://localhost:8081/json/", lambda page: page["masterurl"] != ""),
    "history": ("http://localhost:18080/api/v1/version", lambda page: page["spark"] != ""),
}


def main():
    """Look at the page of the role that this container was started in."""
    _, _, words = Path("/proc/1/cmdline").read_text().partition("entrypoint.sh\0")
    role = words.partition("\0")[0]
    if role not in PAGES:
        return
    url, is_well = PAGES[role]
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            page = json.load(answer)
    except (OSError, ValueError) as error:
        sys.exit(f"the {role} does not answer at {url}: {error}")
    if not is_well(page):
        sys.exit(f"the {role} is not ready: {str(page)[:500]}")


if __name__ == "__main__":
    main()
