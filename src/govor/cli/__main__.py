"""`python -m govor.cli`."""

from govor.cli import main

if __name__ == "__main__":
    main()
