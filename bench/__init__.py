"""Benchmarks: ``python -m bench.run`` measures, ``python -m bench.compare`` compares two runs."""
