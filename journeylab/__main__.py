"""``python -m journeylab`` is the command line."""

from journeylab.cli import main

if __name__ == "__main__":
    main()
