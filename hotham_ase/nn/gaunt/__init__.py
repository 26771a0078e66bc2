"""Gaunt products of features: pointwise products of functions on the sphere."""
