"""Fetches the packages of `packages.txt` into `target/corpus`, one folder of static files for each.

Nothing of a package is run: wheels and tarballs are only unpacked. What is there already is kept, so that
a second run takes no time. Usage, from the repository's folder: python tests/corpus/fetch.py FOLDER
"""

import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath

from packages import Package, read_packages

NOTES = ".fetched"  # of each folder, what it was made from
AT_A_TIME = 10  # packages for one run of pip or npm
RUNS_AT_ONCE = 4
PATIENCE = 600  # seconds, for one run


class Unreachable(Exception):
    """Packages that could not be had, and what the client said."""


def main(out: Path) -> int:
    (out / NOTES).mkdir(parents=True, exist_ok=True)
    packages = read_packages()
    forget_others(out, packages)
    wanted = [package for package in packages if not is_there(out, package)]
    if not wanted:
        return 0
    print(f"setup: fetching {len(wanted)} packages into {out}", file=sys.stderr)
    with ThreadPoolExecutor(RUNS_AT_ONCE) as threads:
        failures = [failure for failure in threads.map(lambda some: attempt(out, some), batches(wanted)) if failure]
    for failure in failures:
        print(f"setup: error: {failure}", file=sys.stderr)
    if failures:
        print(
            "setup: hint: the tests of compatibility need these packages; tell pip and npm where to find them\n"
            "setup: hint: (PIP_INDEX_URL, npm_config_registry), or copy target/corpus from where it was made",
            file=sys.stderr,
        )
    return 1 if failures else 0


def forget_others(out: Path, packages: list[Package]) -> None:
    """Removes what an older list has left."""
    labels = {package.label for package in packages}
    for folder in out.iterdir():
        if folder.name not in labels and folder.name != NOTES:
            shutil.rmtree(folder)


def is_there(out: Path, package: Package) -> bool:
    note = out / NOTES / package.label
    return (out / package.label).is_dir() and note.is_file() and note.read_text() == package.contents


def batches(packages: list[Package]) -> list[list[Package]]:
    answer = []
    for registry in ("pypi", "npm"):
        some = [package for package in packages if package.registry == registry]
        answer += [some[at : at + AT_A_TIME] for at in range(0, len(some), AT_A_TIME)]
    return answer


def attempt(out: Path, packages: list[Package]) -> str | None:
    try:
        with tempfile.TemporaryDirectory(dir=out, prefix=".") as work:
            fetch(Path(work), packages, out)
    except (Unreachable, subprocess.TimeoutExpired, OSError, tarfile.TarError, zipfile.BadZipFile) as error:
        return f"{', '.join(package.name for package in packages)}: {error}"
    return None


def fetch(work: Path, packages: list[Package], out: Path) -> None:
    if packages[0].registry == "pypi":
        wheels = ["pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps", "--only-binary", ":all:"]
        names = [f"{package.name}=={package.version}" for package in packages]
        run(sys.executable, "-m", *wheels, "--dest", work, *names)
    else:
        names = [f"{package.name}@{package.version}" for package in packages]
        run("npm", "pack", "--loglevel=error", "--ignore-scripts", "--pack-destination", work, *names)
    for package in packages:
        unpacked = unpack(work, package, work / "unpacked" / package.label)
        if not unpacked.is_dir():
            raise Unreachable(f"{package.name} has no static files where tests/corpus/packages.txt says")
        shutil.rmtree(out / package.label, ignore_errors=True)
        unpacked.rename(out / package.label)
        (out / NOTES / package.label).write_text(package.contents)


def run(*command) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, stdin=subprocess.DEVNULL)
    except FileNotFoundError as error:
        raise Unreachable(f"{error.filename} is not installed") from error
    if done.returncode:
        said = (done.stderr + done.stdout).strip().splitlines()
        raise Unreachable("; ".join(said[:4]) if said else f"{command[0]} failed and said nothing")


def unpack(work: Path, package: Package, folder: Path) -> Path:
    if package.registry == "npm":
        return unpack_tarball(work / f"{package.label}.tgz", folder, package.folders)
    plain = re.sub(r"[-_.]+", "_", package.name).lower()
    wheel = next(file for file in work.glob("*.whl") if file.name.lower().startswith(f"{plain}-{package.version}-"))
    return unpack_wheel(wheel, folder)


def unpack_wheel(wheel: Path, folder: Path) -> Path:
    """Takes the `static` folder of each app: the outermost one inside of a Python package."""
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        for name in archive.namelist():
            parts = PurePosixPath(name).parts
            if name.endswith("/") or "static" not in parts[1:-1] or {"tests", "test_utils"} & {*parts}:
                continue
            at = parts.index("static", 1)
            if "/".join((*parts[:at], "__init__.py")) in names:
                write(folder.joinpath(*parts[at + 1 :]), archive.read(name))
    return folder


def unpack_tarball(tarball: Path, folder: Path, wanted: list[str]) -> Path:
    with tarfile.open(tarball) as archive:
        for member in archive:
            name = PurePosixPath(*PurePosixPath(member.name).parts[1:])
            if not member.isfile() or ".." in name.parts:
                continue
            if any(name.is_relative_to(some) for some in wanted):
                write(folder / name, archive.extractfile(member).read())
    return folder


def write(path: Path, contents: bytes) -> None:
    if path.exists():
        return  # another app of the package has it: the first one wins, as with Django's finders
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(contents)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
