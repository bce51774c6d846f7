"""What tests/gpu/run is made of; needs Python's own library and nothing else."""
