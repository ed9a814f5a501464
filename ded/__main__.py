"""The command `ded`, also as `python -m ded`."""

import sys


def main() -> None:
    """Runs the command; one line for Ctrl-C, while its modules are still imported too."""
    try:
        from ded import cli

        cli.main()
    except KeyboardInterrupt:
        print("\nded: interrupted", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
