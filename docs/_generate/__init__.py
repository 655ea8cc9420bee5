"""Extensions of Sphinx: what pages show of the code and of saved results is read when the site is built."""
