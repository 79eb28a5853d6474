"""Speed and memory, measured: the machine's limits, and training beside other projects in one run."""
