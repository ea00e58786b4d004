"""The PackingPlans as they stand, in memory: read once, then kept by the watch.

kopf tells of no deletion that happened while its watch was cut off, and tells of two objects that
had the same name in any order. So an object is known by its uid, and whether the newest plan is
still there is asked before another is taken for overtaken by it.

Execution asks for the plan to carry out, deployments ask what the newest plan says about their
pods. A plan's spec never changes and its status is written by us alone, so memory is as good as a
fresh read. A large plan is in several objects, and none while one of them is missing. Used from
several threads.
"""

import threading
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import structlog

from bayplan.codec import PublishedPlan, decisions, joined, published_plan_of
from bayplan.codec.plans import FINISHED
from bayplan.plan import Hold
from bayplan_operator.cluster.kube import PLANS, Kube, Raw, plan_path

_log = structlog.get_logger()

#: Longest message that is passed on.
_MAX_MESSAGE: Final = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """An object and its status as last seen or written."""

    published: PublishedPlan
    status: Mapping[str, Any]

    @property
    def open(self) -> bool:
        """Whether something may still happen to it."""
        return not self.published.finished


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """A whole plan, and its objects; the first one tells how far it is."""

    published: PublishedPlan
    parts: tuple[Entry, ...]

    @property
    def open(self) -> bool:
        """Whether something may still happen to it."""
        return self.parts[0].open

    @property
    def message(self) -> str:
        """How far it is, in words."""
        return str(self.parts[0].status.get("message", "is about to be carried out"))


class Plans:
    """All objects, by name."""

    def __init__(self, kube: Kube) -> None:
        self._kube = kube
        self._lock = threading.Lock()
        self._entries: dict[str, Entry] | None = None
        self._told: dict[str, str] = {}
        self._joined: tuple[tuple[str, ...], PublishedPlan] | None = None

    def see(self, raw: Raw) -> bool:
        """Take an object that was added or changed; return whether it is new or in a new phase."""
        name = raw["metadata"]["name"]
        phase = str((raw.get("status") or {}).get("phase", "Pending"))
        with self._lock:
            known = (self._entries or {}).get(name)
            is_other = known is not None and known.published.uid != raw["metadata"].get("uid")
            is_news = is_other or self._told.get(name) != phase
            self._told[name] = phase
            if self._entries is not None:
                self._put(raw)
            return is_news

    def forget(self, name: str, uid: str) -> None:
        """Take that an object was deleted; another one of its name may be there already."""
        with self._lock:
            known = (self._entries or {}).get(name)
            if known is not None and known.published.uid != uid:
                return
            self._told.pop(name, None)
            if self._entries is not None:
                self._entries.pop(name, None)

    def look_again(self) -> None:
        """If a plan seems overtaken by one that is gone, have all of them read anew.

        Raises:
            ApiException: The API server does not tell.
        """
        newest = self.newest() if self.overtaken() else None
        if newest is None:
            return
        found = self._kube.get(plan_path(newest.published.name)) or {}
        if (found.get("metadata") or {}).get("uid") != newest.published.uid:
            _log.warning("plans_read_anew", gone=newest.published.name)
            with self._lock:
                self._entries = None

    def writes(self, name: str, status: Mapping[str, Any]) -> None:
        """Take the status that is about to be written: while it is at work, that is no news.

        The watch may tell of it before the answer to the write is there.
        """
        if status["phase"] not in FINISHED:
            with self._lock:
                self._told[name] = status["phase"]

    def wrote(self, name: str, status: Mapping[str, Any]) -> None:
        """Take the status that was just written."""
        with self._lock:
            entry = self._all().get(name)
            if entry is None:
                return
            published = replace(entry.published, phase=status["phase"])
            self._all()[name] = Entry(published=published, status=status)

    def newest(self) -> Decision | None:
        """Return the plan with the highest sequence."""
        with self._lock:
            pages = self._decisions()
            return self._decision(pages[-1]) if pages else None

    def overtaken(self) -> tuple[Entry, ...]:
        """Return unfinished objects that are not of the newest plan."""
        with self._lock:
            entries, pages = tuple(self._all().values()), self._decisions()
        newest = pages[-1][0].sequence if pages else 0
        return tuple(e for e in entries if e.open and e.published.sequence < newest)

    def bound_by_open(self) -> frozenset[str]:
        """Return the uids of pods that unfinished plans give a node."""
        with self._lock:
            pages = self._decisions()
        at_work = [page for each in pages if not each[0].finished for page in each]
        return frozenset(bind.uid for page in at_work for bind in page.plan.binds)

    def awaits_replacements(self) -> bool:
        """Return whether an unfinished plan moves pods, whose owners make others in their place.

        Never asks the API server.
        """
        with self._lock:
            known = tuple((self._entries or {}).values())
        return any(entry.open and entry.published.plan.moves for entry in known)

    def leaving(self) -> frozenset[str]:
        """Return the uids of pods that the plan at work moves or evicts."""
        newest = self.newest()
        if newest is None or not newest.open:
            return frozenset()
        return frozenset(victim.uid for victim in newest.published.plan.victims)

    def holds_for(self, uids: Collection[str]) -> tuple[Hold, ...]:
        """Return what the newest plan says about pods that go on waiting."""
        newest = self.newest()
        if newest is None:
            return ()
        return tuple(hold for hold in newest.published.plan.holds if hold.uid in uids)

    def executing_for(self, uids: Collection[str], owner_uid: str) -> str:
        """Return the progress of the plan at work if it is for these pods, else ""."""
        newest = self.newest()
        if newest is None or not newest.open:
            return ""
        plan = newest.published.plan
        concerned = any(bind.uid in uids for bind in plan.binds) or any(
            move.owner is not None and move.owner.uid == owner_uid for move in plan.moves
        )
        return f"{newest.published.name}: {newest.message}"[:_MAX_MESSAGE] if concerned else ""

    def _decisions(self) -> tuple[tuple[PublishedPlan, ...], ...]:
        """Return the objects of whole plans, the oldest plan first. Call with the lock."""
        return decisions(entry.published for entry in self._all().values())

    def _decision(self, pages: Iterable[PublishedPlan]) -> Decision:
        """Return a whole plan; the newest is put together once. Call with the lock."""
        parts = tuple(self._all()[page.name] for page in pages)
        uids = tuple(part.published.uid for part in parts)
        if self._joined is None or self._joined[0] != uids:
            self._joined = (uids, joined([part.published for part in parts]))
        published = replace(self._joined[1], phase=parts[0].published.phase)
        return Decision(published=published, parts=parts)

    def _all(self) -> dict[str, Entry]:
        """Return the entries, read from the API server the first time. Call with the lock."""
        if self._entries is None:
            found = self._kube.items(PLANS)
            self._entries = {}
            for raw in found:
                self._put(raw)
        return self._entries

    def _put(self, raw: Raw) -> None:
        name, status = raw["metadata"]["name"], raw.get("status") or {}
        known = self._all().get(name)
        if known is not None and known.published.uid == raw["metadata"].get("uid"):
            self._update(name, known, status)
            return
        try:
            entry = Entry(published=published_plan_of(raw), status=status)
        except ValueError as error:  # a DecodeError, or a word that this version does not know
            _log.warning("plan_unreadable", plan=name, error=str(error))
            return
        self._all()[name] = entry

    def _update(self, name: str, known: Entry, status: Mapping[str, Any]) -> None:
        """Take a newer status; an echo of one that we wrote before the last cannot reopen it."""
        phase = status.get("phase", "Pending")
        if known.open or phase in FINISHED:
            published = replace(known.published, phase=phase)
            self._all()[name] = Entry(published=published, status=status)
