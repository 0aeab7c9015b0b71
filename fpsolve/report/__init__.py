"""What a run leaves behind: results, the table and explanations on the terminal, and the JSON record."""
