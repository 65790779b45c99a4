"""Paillier encryption, packing of many numbers into one plaintext, and encrypted linear maps. No I/O."""
