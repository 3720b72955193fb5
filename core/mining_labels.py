"""Which cluster each candidate belongs to, on disk: a file a task, read a part at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

MEMBERS_MAX: Final = 256
"""Of a larger cluster so many members, evenly spaced in its order, choose the medoid."""


@dataclass(frozen=True, slots=True)
class Labels:
    """Files of int32 .npy arrays: the labels of candidates 0.., `chunk` to a file, fewer in the last."""

    files: Sequence[Path]
    chunk: int

    def parts(self) -> Iterator[tuple[int, NDArray[np.int32]]]:
        """Each file's first candidate and its labels."""
        for number, file in enumerate(self.files):
            yield number * self.chunk, np.load(file)

    def between(self, first: int, stop: int) -> NDArray[np.int32]:
        """Labels of candidates first..stop-1."""
        numbers = range(first // self.chunk, -(-stop // self.chunk))
        together = np.concatenate([np.load(self.files[number]) for number in numbers])
        return together[first - numbers.start * self.chunk :][: stop - first]

    def members(self, clusters: int) -> list[NDArray[np.int64]]:
        """Candidates of each cluster in order, at most `MEMBERS_MAX` of them."""
        counts = np.zeros(clusters, np.int64)
        for _, labels in self.parts():
            counts += np.bincount(labels, minlength=clusters)
        wanted = [
            np.linspace(0, n - 1, MEMBERS_MAX).astype(np.int64) if n > MEMBERS_MAX else np.arange(n) for n in counts
        ]
        seen = np.zeros(clusters, np.int64)
        found: list[list[NDArray[np.int64]]] = [[] for _ in range(clusters)]
        for first, labels in self.parts():
            order = np.argsort(labels, kind="stable")
            here = np.bincount(labels, minlength=clusters)
            starts = np.cumsum(here) - here
            for cluster in np.flatnonzero(here):
                before = seen[cluster]
                low, high = np.searchsorted(wanted[cluster], [before, before + here[cluster]])
                places = wanted[cluster][low:high] - before
                found[cluster].append(first + order[starts[cluster] + places])
            seen += here
        return [np.concatenate(some) if some else np.empty(0, np.int64) for some in found]
