"""What the benchmarks are made of: programs and files, peers that are configured for one job, loads, rounds, and the report."""
