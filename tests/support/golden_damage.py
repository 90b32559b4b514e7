"""Content of golden files with changes."""

import json
from typing import Any

from tests.support.golden_cases import Golden


def content_of(golden: Golden, **changes: Any) -> dict[str, Any]:
    """The content of the file with some arrays or the config replaced, or removed if None."""
    content = {"config": golden.config, **golden.arrays} | changes
    content = {name: value for name, value in content.items() if value is not None}
    return content | ({"config": json.dumps(content["config"])} if "config" in content else {})
