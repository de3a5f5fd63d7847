"""Evaluation: what judges see in images, the figures made of it, and the search for copies."""
