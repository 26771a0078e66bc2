"""The Hot-Ham network; torch only, no ase."""
