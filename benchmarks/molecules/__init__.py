"""Molecules as in MD17: H of PBE in def2-SVP at geometries of 500 K, for the time at hand."""
