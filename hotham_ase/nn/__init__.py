"""The Hot-Ham network; torch and e3nn only, no ase."""
