"""`python -m maskmill` does what the command `maskmill` does."""

from .cli import main

if __name__ == "__main__":
    main()
