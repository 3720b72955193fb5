"""Bytes on the wire: one set of messages, three codecs, told apart by a fixed header."""
