"""What an app says of itself: metrics, HTTP endpoints, the page, the terminal, problems in words."""
