"""Whole small experiments, data to metrics, that need no stage between their parts."""
