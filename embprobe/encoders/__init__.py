"""Encoders: their names, and how a name becomes a frozen network."""
