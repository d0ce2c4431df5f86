"""Whether something is changing: the loss, the inputs, the score; and the signals that say so."""
