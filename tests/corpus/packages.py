"""The list of packages, read."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Package:
    registry: str
    name: str
    version: str
    folders: list[str]
    has_modules: bool

    @property
    def label(self) -> str:
        """Its name as a folder."""
        return f"{self.name.removeprefix('@').replace('/', '-').lower()}-{self.version}"

    @property
    def contents(self) -> str:
        """What decides which files it brings."""
        return " ".join([self.registry, self.name, self.version, *self.folders]) + "\n"


def read_packages() -> list[Package]:
    lines = Path(__file__).with_name("packages.txt").read_text().splitlines()
    return [read_line(line) for line in lines if line.strip() and not line.startswith("#")]


def read_line(line: str) -> Package:
    registry, name, version, *rest = line.split()
    folders = [word for word in rest if word != "modules"]
    return Package(registry, name, version, folders, "modules" in rest)
