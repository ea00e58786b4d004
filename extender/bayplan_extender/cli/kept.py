"""The plans that a cluster keeps, as far as they can be read: some may be of a newer build."""

import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from bayplan.codec import DecodeError, PublishedPlan, published_plan_of


def readable(raws: Iterable[Mapping[str, Any]]) -> Iterator[PublishedPlan]:
    """Yield what PackingPlan objects hold; of one that cannot be read it is told what follows."""
    for raw in raws:
        try:
            yield published_plan_of(raw)
        except DecodeError as error:
            sys.stderr.write(f"{error}; so nothing that it says is heeded\n")
