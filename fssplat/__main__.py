"""`python -m fssplat`: the same commands as `fssplat`."""

from fssplat.cli import main

if __name__ == "__main__":
    main()
