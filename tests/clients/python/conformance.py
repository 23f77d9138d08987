"""The official Python client against the namespace: every form of sending, receiving, and failing."""

import cases  # noqa: F401  (registers them)
from harness import main

if __name__ == "__main__":
    main()
