"""What `benchmarks/gpu.py` is made of: checks that tests run too, figures, and the machinery that keeps them apart."""
