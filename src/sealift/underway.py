"""Of no object two jobs are under way at once: they would share its partial file, and race for its final name. Pure.

An inventory may name an object again, a server may list one twice, and a file to be repaired may be recorded at two
places. Of what comes again while its object is under way nothing is looked at before that job has ended.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from operator import itemgetter
from typing import Generic, TypeVar

from sealift.bell import Bell
from sealift.fetch import Job
from sealift.model import RemoteObject

W = TypeVar("W", bound=Hashable)

_whose = itemgetter(0, 1)
"""Returns the bucket and key of a `RemoteObject`: whatever the version, the final name is the same."""


class UnderWay(Generic[W]):
    """The objects in line or being fetched, and those that came again meanwhile: each with what is told of it, a `W`.

    As large as the line and what is fetched; what waits is bounded by whoever waits while there is too much of it.
    """

    def __init__(self) -> None:
        self._jobs: dict[tuple[str, str], Job] = {}
        self._waiting: dict[tuple[str, str], list[tuple[W, RemoteObject]]] = {}
        self._freed: dict[W, list[RemoteObject]] = {}
        self.waiting = 0
        """How many wait for a job to end."""
        self.changed = Bell()
        """Rings when some wait no more."""

    def put_off(self, remotes: Sequence[RemoteObject], told: W) -> Sequence[RemoteObject]:
        """Let those wait whose objects are under way, and return the others."""
        if self._jobs.keys().isdisjoint(map(_whose, remotes)):
            return remotes
        others = []
        for remote in remotes:
            if _whose(remote) in self._jobs:
                self._wait(remote, told)
            else:
                others.append(remote)
        return others

    def begin(self, jobs: Sequence[Job], told: W) -> tuple[Sequence[Job], Sequence[Job]]:
        """Return which of these jobs are under way from now on, and which are not, as their objects are: these wait."""
        new = {_whose(job.remote): job for job in jobs}
        if len(new) == len(jobs) and self._jobs.keys().isdisjoint(new):
            self._jobs.update(new)
            return jobs, ()
        begun, doubled = [], []
        for job in jobs:
            if self._jobs.setdefault(_whose(job.remote), job) is job:
                begun.append(job)
            else:
                self._wait(job.remote, told)
                doubled.append(job)
        return begun, doubled

    def go_on(self, job: Job) -> None:
        """Let a job take the place of its object's last one, which is about to end."""
        self._jobs[_whose(job.remote)] = job

    def over(self, job: Job) -> None:
        """Hear that a job has ended: what waits for it may be looked at, unless another one has taken its place."""
        whose = _whose(job.remote)
        last = self._jobs.pop(whose, job)
        if last is not job:
            self._jobs[whose] = last
            return
        if self._waiting and whose in self._waiting:
            for told, remote in self._waiting.pop(whose):
                self._freed.setdefault(told, []).append(remote)
                self.waiting -= 1
            self.changed.ring()

    def freed(self) -> dict[W, list[RemoteObject]]:
        """Return what waits no more, and forget it."""
        freed, self._freed = self._freed, {}
        return freed

    def _wait(self, remote: RemoteObject, told: W) -> None:
        self._waiting.setdefault(_whose(remote), []).append((told, remote))
        self.waiting += 1
