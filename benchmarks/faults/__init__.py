"""The parts of the fault campaign, benchmarks/faults.py."""
