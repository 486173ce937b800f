"""`python -m trio_mcp` is `trio-mcp`."""

from trio_mcp.cli import main

if __name__ == "__main__":
    main()
