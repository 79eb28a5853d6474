"""To and from the files of other projects. Their packages are never needed, and nothing in a file is run."""
