"""A dispatcher of which a test knows the workers that it calls."""

from concurrent.futures import Executor
from dataclasses import fields
from typing import Any

from bayplan_operator.dispatcher import Dispatcher, Workers


def dispatcher_of(threads: Executor, **workers: object) -> Dispatcher:
    """Return a dispatcher with some workers; the others are never called."""
    nobody: dict[str, Any] = {field.name: None for field in fields(Workers)}
    return Dispatcher(Workers(**nobody | workers | {"threads": threads}))
