"""`python -m microseg_assets.cli` is the command `microseg`."""

from microseg_assets.cli.main import main

if __name__ == "__main__":
    main()
