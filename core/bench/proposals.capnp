# Proposals row by row: Cap'n Proto as most programs would use it, for the codec bench alone.
@0xd2f6a1c35b8e9047;

struct Proposal {
  step @0 :UInt64;
  quantity @1 :Int64;
  limitPrice @2 :Int64;
  target @3 :Int64;
  confidence @4 :Float32;
  instrument @5 :UInt16;
  side @6 :Int8;
  reason @7 :UInt8;
}

struct Proposals {
  rows @0 :List(Proposal);
}
