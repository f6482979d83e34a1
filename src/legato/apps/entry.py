"""Where the program begins: Ctrl-C ends it quietly while it is still being imported, too."""

import sys


def main() -> int:
    """Run the command line and return its exit code; see `cli.main`."""
    try:
        from legato.apps.cli import main as run

        return run()
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
