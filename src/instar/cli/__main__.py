"""`python -m instar.cli`: the `instar` command of this very interpreter."""

from instar.cli import main

if __name__ == "__main__":
    main()
