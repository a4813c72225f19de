"""`python -m foa` is `foa`."""

from foa.cli import main

if __name__ == "__main__":
    main()
