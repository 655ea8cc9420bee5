"""The command line: ``video-env COMMAND``. Arguments and their help are signatures and docstrings."""
