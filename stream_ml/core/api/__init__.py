"""What a scoring request says, what is wrong with it, and what is answered: bytes and values in, values out."""
