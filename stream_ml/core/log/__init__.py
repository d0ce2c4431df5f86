"""The training log: its entries and their bytes, dense sequences, seals, schemas that stand in it."""
