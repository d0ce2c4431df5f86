"""What answers at each path of the API."""
