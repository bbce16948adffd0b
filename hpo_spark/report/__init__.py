"""What a search looks like: a page of plots, tables and comparisons, from journals and nothing else.

run         a search as its journal tells it
labels      names that any plot can show as text
view        a search as the plots take it
plots       Optuna's plots, interactive
pictures    Optuna's and scikit-optimize's plots, as PNG files
slots       which slot ran what, and how busy they were; timeline draws it
sections    the parts of a report, each of which may fail alone
page        a page that needs nothing but itself
write       the report of a run folder, once or while its search runs
comparison  several searches side by side: how good each became, and what it took
compare     the page and the table that say so
"""
