# Every message of net/messages.py, field for field in the same order: a new field costs one line at the end of its
# struct, with the next number. `int` is UInt64, an enum UInt8, `bytes` Data, `tuple[X, ...]` List(X), `X | None` a null
# pointer. Names are the dataclass's in camel case. Never renumber.
@0xb8a4e1f07c6d2935;

struct Entry {
  index @0 :UInt64;
  term @1 :UInt64;
  kind @2 :UInt8;
  payload @3 :Data;
}

struct Certificate {
  mode @0 :UInt8;
  epoch @1 :UInt64;
  context @2 :Data;
  phase @3 :UInt8;
  term @4 :UInt64;
  index @5 :UInt64;
  parent @6 :Data;
  digest @7 :Data;
  signers @8 :List(UInt64);
  signatures @9 :List(Data);
}

struct Committed {
  epoch @0 :UInt64;
  entry @1 :Entry;
  certificate @2 :Certificate;
  witness @3 :Certificate;
}

struct RequestVote {
  epoch @0 :UInt64;
  term @1 :UInt64;
  candidate @2 :UInt64;
  lastLogIndex @3 :UInt64;
  lastLogTerm @4 :UInt64;
  preVote @5 :Bool;
  transfer @6 :Bool;
}

struct RequestVoteReply {
  epoch @0 :UInt64;
  term @1 :UInt64;
  voter @2 :UInt64;
  granted @3 :Bool;
  preVote @4 :Bool;
}

# The entries travel as columns (net/wire/entry_columns.py): rows of index u64, term u64, kind u32, payload bytes u32,
# then all payloads behind one another.
struct AppendEntries {
  epoch @0 :UInt64;
  term @1 :UInt64;
  leader @2 :UInt64;
  prevLogIndex @3 :UInt64;
  prevLogTerm @4 :UInt64;
  leaderCommit @5 :UInt64;
  round @6 :UInt64;
  entries @7 :Data;
  payloads @8 :Data;
}

struct AppendEntriesReply {
  epoch @0 :UInt64;
  term @1 :UInt64;
  follower @2 :UInt64;
  success @3 :Bool;
  matchIndex @4 :UInt64;
  conflictIndex @5 :UInt64;
  round @6 :UInt64;
  voting @7 :Bool;
}

struct TimeoutNow {
  epoch @0 :UInt64;
  term @1 :UInt64;
  leader @2 :UInt64;
}

struct ReadIndex {
  epoch @0 :UInt64;
  requestId @1 :UInt64;
}

struct ReadIndexReply {
  epoch @0 :UInt64;
  requestId @1 :UInt64;
  granted @2 :Bool;
  index @3 :UInt64;
}

struct Propose {
  epoch @0 :UInt64;
  view @1 :UInt64;
  height @2 :UInt64;
  parent @3 :Data;
  kind @4 :UInt8;
  payload @5 :Data;
  leader @6 :UInt64;
  signature @7 :Data;
}

struct Vote {
  epoch @0 :UInt64;
  phase @1 :UInt8;
  view @2 :UInt64;
  height @3 :UInt64;
  digest @4 :Data;
  voter @5 :UInt64;
  signature @6 :Data;
}

struct CertificateNotice {
  epoch @0 :UInt64;
  certificate @1 :Certificate;
}

struct FetchEntries {
  epoch @0 :UInt64;
  firstIndex @1 :UInt64;
  limit @2 :UInt64;
}

struct CommittedEntries {
  epoch @0 :UInt64;
  commitIndex @1 :UInt64;
  entries @2 :List(Committed);
}

struct FetchBlock {
  epoch @0 :UInt64;
  height @1 :UInt64;
  digest @2 :Data;
}

struct Forward {
  epoch @0 :UInt64;
  kind @1 :UInt8;
  payloads @2 :List(Data);
}

struct CheckpointVote {
  epoch @0 :UInt64;
  index @1 :UInt64;
  digest @2 :Data;
  voter @3 :UInt64;
  signature @4 :Data;
}

struct CheckpointCertificate {
  index @0 :UInt64;
  digest @1 :Data;
  signers @2 :List(UInt64);
  signatures @3 :List(Data);
}

struct FetchSnapshot {
  epoch @0 :UInt64;
  index @1 :UInt64;
  offset @2 :UInt64;
}

struct SnapshotChunk {
  epoch @0 :UInt64;
  offset @1 :UInt64;
  totalBytes @2 :UInt64;
  certificate @3 :CheckpointCertificate;
  data @4 :Data;
}

struct EvidenceNotice {
  epoch @0 :UInt64;
  witness @1 :Bool;
  first @2 :Vote;
  second @3 :Vote;
}

struct GossipVersion {
  origin @0 :UInt64;
  key @1 :UInt64;
  version @2 :UInt64;
}

struct GossipEntry {
  origin @0 :UInt64;
  key @1 :UInt64;
  version @2 :UInt64;
  value @3 :Data;
  signature @4 :Data;
}

struct GossipDigest {
  versions @0 :List(GossipVersion);
}

struct GossipDelta {
  entries @0 :List(GossipEntry);
  wanted @1 :List(GossipVersion);
}

# `records` is a packed record array, read in place (net/wire/layouts.py says what a layout is).
struct Application {
  channel @0 :UInt8;
  kind @1 :UInt64;
  requestId @2 :UInt64;
  step @3 :UInt64;
  layout @4 :UInt64;
  records @5 :Data;
  body @6 :Data;
}

# A record array by itself, inside a payload of the replicated log.
struct Records {
  rows @0 :Data;
}
