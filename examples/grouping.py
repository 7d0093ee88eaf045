"""A grouping of one's own, which YAML can name by its class_path."""

from __future__ import annotations

import re


class Matched:
    """Groups parameters by what a regular expression finds in their names.

    Args:
        pattern: The expression; the first match is the group, and names without one form the group "rest".
    """

    def __init__(self, pattern: str) -> None:
        self.pattern = re.compile(pattern)
        self.__name__ = f"Matched({pattern})"  # how loggers and reports call it

    def __call__(self, parameter_name: str) -> str:
        found = self.pattern.search(parameter_name)
        return found[0] if found else "rest"
