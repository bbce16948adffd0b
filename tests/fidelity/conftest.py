"""The objectives beside the tests can be imported, here and in trial processes."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
