"""The Python in a page of documentation."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def python_blocks(page: Path) -> list[str]:
    """What stands between ```` ```python ```` and ```` ``` ````. (A ```` ```py ```` is somebody
    else's code, and needs what is not installed.)"""
    return re.findall(r"^```python\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)
