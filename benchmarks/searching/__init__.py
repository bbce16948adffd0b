"""What `benchmarks.search` is made of: problems, peers, runs, and what becomes of their results."""
