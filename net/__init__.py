"""How nodes agree: messages, codecs, QUIC transport, Raft, Byzantine consensus, identity. Knows no trading."""
