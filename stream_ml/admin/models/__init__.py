"""The models of an app, for who operates it: what the log says of them, going back, and a copy that leaves."""
