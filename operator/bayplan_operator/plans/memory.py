"""The PackingPlans as they stand, in memory: read once, then kept by the watch.

kopf tells of no deletion that happened while its watch was cut off, and tells of two objects that
had the same name in any order. So an object is known by its uid, and whether the newest plan is
still there is asked before another is taken for overtaken by it.

Execution asks for the plan to carry out, deployments ask what the newest plan says about their
pods. A plan's spec never changes and its status is written by us alone, so memory is as good as a
fresh read; of two words on one object the one with the higher resourceVersion counts, for a write
of an operator that is gone may come late. Only where the watch goes back to a lower one, etcd was
restored from a backup, and that is what there is; and where it never shows what we wrote, that may
be lost with it, and all is read anew. A large plan is in several objects, and none
while one of them is missing.

Used from several threads, the one of the event loop too, which never waits for the API server here:
what it tells while all objects are read is taken in after them.
"""

import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

import structlog

from bayplan.codec import PublishedPlan, decisions, joined, published_plan_of
from bayplan.codec.plans import FINISHED
from bayplan.codec.recalls import Group, Recall, recalled_in
from bayplan.plan import Bind, Hold, Plan
from bayplan.rules import recalls
from bayplan.steps import Phase, State
from bayplan_operator.cluster.kube import PLANS, Kube, Raw, plan_path

_log = structlog.get_logger()

#: Longest message that is passed on.
_MAX_MESSAGE: Final = 1000

#: Seconds in which the watch shows what was written, even if it was cut off meanwhile.
_ECHO_S: Final = 60.0

#: The phase of a plan that another one follows.
_FAILED: Final = "Failed"

#: States of steps that end a plan. A newer version may have left others behind, unknown to us.
_FAILURES: Final = frozenset(state.value for state in State if state.is_failure)

#: The field of a status that `plans.recalls` writes.
_RECALLED: Final = "recalled"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """An object and its status as last seen or written, and the resourceVersion of that.

    The status is without what was recalled, which another writer tells: `recalled_version`
    is the resourceVersion of that. `told` is the last one of which the watch told, 0 before it did.
    """

    published: PublishedPlan
    status: Mapping[str, Any]
    version: int
    recalled_version: int
    told: int = 0

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


#: What is to be done to the entries for something that was told.
News = Callable[[dict[str, Entry]], None]


class Plans:
    """All objects, by name."""

    def __init__(self, kube: Kube, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._kube = kube
        self._clock = clock
        self._lock = threading.Lock()
        self._reads = threading.Lock()  # held by who reads all of them
        self._entries: dict[str, Entry] | None = None
        self._unread: list[News] = []
        self._told: dict[str, str] = {}
        self._unseen: dict[tuple[str, int], float] = {}
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
            self._take(partial(_put, raw, watched=True))
            return is_news

    def forget(self, name: str, uid: str) -> None:
        """Take that an object was deleted; another one of its name may be there already."""
        with self._lock:
            self._take(partial(self._drop, name, uid))

    def look_again(self) -> None:
        """If a plan seems overtaken by one that is gone, or a write lost, have all read anew.

        Raises:
            ApiException: The API server does not tell.
        """
        with self._lock:
            if lost := self._lost():
                _log.warning("plans_read_anew", lost=lost)
                self._entries = None
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

    def wrote(self, entry: Entry, status: Mapping[str, Any], version: int) -> None:
        """Take the status that was just written to an object, with its resourceVersion since."""
        name, uid = entry.published.name, entry.published.uid
        with self._lock:
            entries = self._entries or {}
            known = entries.get(name)
            if known is not None and known.published.uid == uid:
                _update(entries, known, status, version)

    def recalled(self, *, now: float) -> Mapping[Group, Recall]:
        """Return who was refused, by whose pods they are (`rules.recalls`)."""
        with self._all() as entries:
            return recalls.standing((e.published for e in entries.values()), now=now)

    def wrote_recalled(
        self, published: PublishedPlan, recalled: tuple[Recall, ...], version: int
    ) -> None:
        """Take who was refused, as was just written to an object, with its resourceVersion since.

        It is written whole each time: what an older word of the watch took away here would be
        missing in the next.
        """
        with self._lock:
            entries = self._entries or {}
            known = entries.get(published.name)
            if known is not None and known.published.uid == published.uid:
                _remember(entries, known, recalled, version)

    def newest(self) -> Decision | None:
        """Return the plan with the highest sequence."""
        with self._all() as entries:
            pages = _decisions(entries)
            return self._decision(entries, pages[-1]) if pages else None

    def is_newest(self, published: PublishedPlan) -> bool:
        """Return whether this plan is there, and no newer one is."""
        newest = self.newest()
        return newest is not None and newest.published.uid == published.uid

    def overtaken(self) -> tuple[Entry, ...]:
        """Return unfinished objects that are not of the newest plan."""
        with self._all() as entries:
            known, pages = tuple(entries.values()), _decisions(entries)
        newest = pages[-1][0].sequence if pages else 0
        return tuple(e for e in known if e.open and e.published.sequence < newest)

    def before(self, published: PublishedPlan) -> tuple[Entry, ...]:
        """Return the objects of all plans before this one that are kept."""
        with self._all() as entries:
            known = tuple(entries.values())
        return tuple(e for e in known if e.published.sequence < published.sequence)

    def bound_by_open(self) -> frozenset[str]:
        """Return the uids of pods that unfinished plans give a node."""
        with self._all() as entries:
            pages = _decisions(entries)
        at_work = [page for each in pages if not each[0].finished for page in each]
        return frozenset(bind.uid for page in at_work for bind in page.plan.binds)

    def awaits_replacements(self) -> bool:
        """Return whether an unfinished plan moves pods, whose owners make others in their place.

        Never asks the API server.
        """
        with self._lock:
            known = tuple((self._entries or {}).values())
        return any(entry.open and entry.published.plan.moves for entry in known)

    def newest_known(self) -> tuple[Plan, ...] | None:
        """Return the parts of the newest plan; None while plans are not read yet.

        Never asks the API server.
        """
        with self._lock:
            if self._entries is None:
                return None
            pages = _decisions(self._entries)
        return tuple(page.plan for page in pages[-1]) if pages else ()

    def progress_known(self) -> tuple[str, str]:
        """Return the name of the newest plan and how far it is, if it is being carried out.

        In words; both are "" if it is not. Never asks the API server.
        """
        with self._lock:
            entries = self._entries or {}
            pages = _decisions(entries)
            first = pages[-1][0] if pages else None
            if first is None or first.phase != Phase.EXECUTING:
                return "", ""
            return first.name, str(entries[first.name].status.get("message", ""))

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

    def without_place(self) -> Mapping[str, str]:
        """Return why waiting pods have no place in the newest plan, or none any more, by uid.

        Of a gang of which one bind has failed no other pod is released either.
        """
        newest = self.newest()
        if newest is None:
            return {}
        plan = newest.published.plan
        found = {hold.uid: hold.rejection.message for hold in plan.holds}
        failed = {
            pod: message for part in newest.parts for pod, message in _failed_binds(part.status)
        }
        lost = {b.uid: failed[str(b.pod)] for b in plan.binds if str(b.pod) in failed}
        torn = {b.gang: lost[b.uid] for b in plan.binds if b.gang is not None and b.uid in lost}
        return found | {b.uid: torn[b.gang] for b in plan.binds if b.gang in torn} | lost

    def may_leave_partial(self, name: str) -> bool:
        """Return whether an object holds pods of gangs, or has failed: some may be partial then.

        Never asks the API server.
        """
        with self._lock:
            known = (self._entries or {}).get(name)
        if known is None:
            return False
        holds = known.published.plan.holds
        return known.published.phase == _FAILED or any(hold.gang for hold in holds)

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

    def _decision(self, entries: Mapping[str, Entry], pages: Iterable[PublishedPlan]) -> Decision:
        """Return a whole plan; the newest is put together once. Call with the lock."""
        parts = tuple(entries[page.name] for page in pages)
        uids = tuple(part.published.uid for part in parts)
        if self._joined is None or self._joined[0] != uids:
            self._joined = (uids, joined([part.published for part in parts]))
        published = replace(self._joined[1], phase=parts[0].published.phase)
        return Decision(published=published, parts=parts)

    @contextmanager
    def _all(self) -> Iterator[Mapping[str, Entry]]:
        """Yield the entries, with the lock held; the first time they are read before that.

        Raises:
            ApiException: The API server does not tell.
        """
        while True:
            with self._lock:
                if self._entries is not None:
                    yield self._entries
                    return
            self._read()

    def _read(self) -> None:
        """Read all objects, and take in after them what was told meanwhile."""
        with self._reads:
            with self._lock:
                if self._entries is not None:
                    return  # somebody else has
                self._unread = []
            found = self._kube.items(PLANS)
            with self._lock:
                entries: dict[str, Entry] = {}
                for raw in found:
                    _put(raw, entries)
                for take in self._unread:
                    take(entries)
                self._entries, self._unread = entries, []

    def _lost(self) -> str:
        """Return an object of which the watch has not shown our last write for long, or "".

        Call with the lock. One of which it has shown nothing yet was just read.
        """
        now, entries = self._clock(), self._entries or {}
        last = {name: max(e.version, e.recalled_version) for name, e in entries.items() if e.told}
        unseen = [(name, last[name]) for name in last if entries[name].told < last[name]]
        self._unseen = {each: self._unseen.get(each, now) for each in unseen}
        late = (name for (name, _), since in self._unseen.items() if now - since >= _ECHO_S)
        return next(late, "")

    def _take(self, news: News) -> None:
        """Take something in, or keep it until all objects are read. Call with the lock."""
        if self._entries is None:
            self._unread.append(news)
        else:
            news(self._entries)

    def _drop(self, name: str, uid: str, entries: dict[str, Entry]) -> None:
        known = entries.get(name)
        if known is None or known.published.uid == uid:
            self._told.pop(name, None)
            entries.pop(name, None)


def _put(raw: Raw, entries: dict[str, Entry], *, watched: bool = False) -> None:
    metadata, status = raw["metadata"], raw.get("status") or {}
    name, version = metadata["name"], int(metadata["resourceVersion"])
    told = version if watched else 0
    known = entries.get(name)
    own = {field: value for field, value in status.items() if field != _RECALLED}
    if known is not None and known.published.uid == metadata.get("uid"):
        if told < known.told:  # restored from a backup
            known = replace(known, version=0, recalled_version=0)
        entries[name] = known = replace(known, told=told)
        _remember(entries, known, recalled_in(raw), version)
        _update(entries, entries[name], own, version)
        return
    try:
        published = published_plan_of(raw)
    except ValueError as error:  # a DecodeError, or a word that this version does not know
        _log.warning("plan_unreadable", plan=name, error=str(error))
        return
    entries[name] = Entry(
        published=published, status=own, version=version, recalled_version=version, told=told
    )


def _update(
    entries: dict[str, Entry], known: Entry, status: Mapping[str, Any], version: int
) -> None:
    """Take a status, unless it is the echo of one before the last that is known."""
    if version > known.version:
        published = replace(known.published, phase=status.get("phase", "Pending"))
        entries[published.name] = replace(
            known, published=published, status=status, version=version
        )


def _remember(
    entries: dict[str, Entry], known: Entry, recalled: tuple[Recall, ...] | None, version: int
) -> None:
    """Take who was refused, unless it is the echo of something before the last that is known."""
    if version > known.recalled_version:
        published = replace(known.published, recalled=recalled)
        entries[published.name] = replace(known, published=published, recalled_version=version)


def _failed_binds(status: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the pods ("ns/name") that cannot go where a plan says, each with the reason."""
    for step in status.get("steps", ()):
        if step["type"] == Bind.__name__ and step["state"] in _FAILURES:
            yield step["pod"], f"it {step['message']}"


def _decisions(entries: Mapping[str, Entry]) -> tuple[tuple[PublishedPlan, ...], ...]:
    """Return the objects of whole plans, the oldest plan first."""
    return decisions(entry.published for entry in entries.values())
