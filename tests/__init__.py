"""Tests, in the order of the package; a package so that no other `tests` that is installed hides it."""
