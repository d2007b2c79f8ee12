"""`python -m govor`, which torchrun can start: `torchrun -m govor train …`."""

from govor.cli import main

if __name__ == "__main__":
    main()
