"""What tests/gpu/bundle is made of; needs Python's own library, binutils and ldd."""
