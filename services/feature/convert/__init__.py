"""Messages from and to what the cores work with, which see no protobuf."""
