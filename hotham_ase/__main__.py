"""``python -m hotham_ase``, the same as the command ``hotham``."""

from hotham_ase.cli import main

if __name__ == "__main__":
    main()
