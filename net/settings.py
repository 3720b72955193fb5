"""The times and bounds of consensus, in one frozen value."""

from __future__ import annotations

import sys
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ConsensusSettings:
    """Times in seconds, bounds in entries or messages."""

    heartbeat_interval_s: float = 0.1
    """A leader that has nothing to say says so this often."""
    election_timeout_min_s: float = 0.4
    """Raft: a follower that hears no leader for a random time from here ..."""
    election_timeout_max_s: float = 0.8
    """... to here asks for votes. Byzantine replicas give up a silent leader's view after this."""
    commit_push_delay_s: float = 0.001
    """How long a new Raft commit index waits for a message to ride on before it is sent alone."""
    window_entries: int = 1024
    """Raft: entries sent and not yet acknowledged, per follower."""
    message_entries: int = 256
    """Entries of one AppendEntries or CommittedEntries message."""
    relay_votes: bool = True
    """Byzantine: votes go to the view's leader, who passes on the certificate that they make; all hear them only when
    that takes too long. False: every vote goes to everybody at once, a message delay less and more than twice the
    messages."""
    fast_path: bool = False
    """Byzantine: decide two message delays after the proposal (`net.bft_fast`), with 4 or 5 voters only. All nodes must
    agree on it: it is part of what every signature of the log covers."""
    bft_window: int = 16
    """Byzantine heights in flight; 1 is the sequential baseline."""
    progress_timeout_s: float = 1.0
    """Byzantine: a proposal or a wanted payload that does not commit within this costs the leader its view."""
    progress_timeout_max_s: float = 8.0
    """The progress timeout doubles with every view that brought nothing, up to this."""
    resend_interval_s: float = 0.25
    """Votes, forwards and fetches that brought nothing are sent again this often."""
    pending_limit: int = 4096
    """Payloads that this node submitted and that are not committed yet."""
    retained_entries: int = 65536
    """Committed entries kept in memory for peers that lag."""
    buffered_messages: int = 1024
    """Messages of an epoch or view that this node has not reached yet."""
    lease_clock_drift: float = 0.1
    """Raft: the share by which clocks may run apart; the leader's lease is shorter by it (thesis §6.4.1)."""
    checkpoint_interval_entries: int = 4096
    """Every so many entries all nodes checkpoint their state, and the log behind it is cut; 0: never."""
    snapshot_chunk_bytes: int = 256 * 1024
    """One message of a checkpoint's transfer to a peer that lags behind the log."""
    batch_payloads: int = 1
    """Payloads that wait at a leader and travel as one BATCH entry, at most; 1: an entry each."""

    @property
    def history_entries(self) -> int:
        """Committed entries kept in memory, at most: also those that no checkpoint brings to who lags."""
        interval = self.checkpoint_interval_entries
        return max(self.retained_entries, 2 * interval) if interval else sys.maxsize
