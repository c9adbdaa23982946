"""What a finished run looks like to a reader: tables, files and a page. Never imports torch."""
