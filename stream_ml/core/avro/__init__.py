"""What the bytes of a record say: schemas, fields, framings; one record at a time and many as columns."""
