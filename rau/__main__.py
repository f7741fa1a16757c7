"""`python -m rau`, the same as the console script `rau`."""

from rau.cli.app import main

if __name__ == "__main__":
    main()
