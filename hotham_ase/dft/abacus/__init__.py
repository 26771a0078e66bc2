"""Run folders of ABACUS."""
