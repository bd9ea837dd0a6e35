"""The project's own upkeep: benchmarks, generated tables, walks."""
