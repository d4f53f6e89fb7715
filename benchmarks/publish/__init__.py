"""From results in JSON to a page and pictures: what is said of them, and whether goals are reached.

Everything is computed again from the rounds in the file, and nothing here but `drawing` needs a package.
"""
