"""Training: the loop, its optimizer, what listens to it, and whole runs."""
