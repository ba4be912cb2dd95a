"""`python -m hilum.cli`."""

from hilum.cli import main

if __name__ == "__main__":
    main()
