"""A trained model: network, orbitals, options, expected errors, and its file."""
