"""Searches in the forms of other libraries, and theirs in ours; one file a library, imported when it is needed."""
