"""What is published of one partition: predictions, outcomes, examples, commits; and how it is restored."""
