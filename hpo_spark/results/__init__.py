"""What a search leaves: its result, its tables, its folder. Each name is imported from the module that has it."""
