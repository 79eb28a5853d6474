"""`python -m glassgpt`: the same as the command `glassgpt`."""

from glassgpt.cli.main import main

if __name__ == "__main__":
    main()
