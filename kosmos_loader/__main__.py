"""`python -m kosmos_loader`."""

from kosmos_loader.cli import main

if __name__ == "__main__":
    main()
