"""Figures, tables and verdicts of the gallery: a file a station, with ``plot``, ``caption`` and, if it likes, ``table``."""
