"""The only code that prints, parses arguments or serves."""
