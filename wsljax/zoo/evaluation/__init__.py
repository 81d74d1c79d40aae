"""What networks are worth: metrics by name, measured, recorded and measured again."""
