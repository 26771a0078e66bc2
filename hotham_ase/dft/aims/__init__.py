"""FHI-aims: the sparse matrices that ``output_rs_matrices`` writes."""
