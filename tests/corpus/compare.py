"""Compares `vestibule collect` with Django's collectstatic on real packages, reference by reference.

Usage, from the repository's folder:

    python tests/corpus/compare.py VESTIBULE            prints the report; ends with 1 if something is wrong
    python tests/corpus/compare.py VESTIBULE LABEL…     the same for some packages, and what is behind it

Each package of `packages.txt` is collected by both, alone and with their defaults: Django with its
ManifestStaticFilesStorage, vestibule without compression. Packages whose scripts import each other are
collected a second time with the rewriting of imports switched on in both.

Where one of them refuses, that goes into the report, and it is run again with missing files forgiven, so
that the references which do lead somewhere are compared for every package.

What is wrong, and makes this script fail:
- Django succeeds, and vestibule does not;
- vestibule refuses for the sake of a file that is there;
- a reference that Django rewrites is not rewritten by vestibule, or leads to another file;
- a rewritten reference of vestibule does not lead to the published name of a file;
- a published file of vestibule differs from its source in more than names;
- the two collect different files.

How references are compared: in the text of each output file, published names are put back to plain
ones, and the places are noted. Ours must then equal the source byte for byte. Django's must equal it
but for quotes, blanks, brackets and the word `url`, which Django rewrites too; leaving these out of
both gives places that can be compared.
"""

import bisect
import filecmp
import json
import multiprocessing
import os
import posixpath
import re
import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote

import django
from django.conf import settings
from django.contrib.staticfiles.management.commands.collectstatic import Command as Collectstatic
from django.contrib.staticfiles.storage import ManifestStaticFilesStorage
from django.core.exceptions import SuspiciousFileOperation
from django.core.management import CommandError, call_command
from packages import Package, read_packages

CORPUS = Path("target/corpus")
PREFIX = "/static/"
PATIENCE = 600  # seconds, for one run of vestibule
SHOWN = 3  # of the reasons why a package is refused

# Compression would take minutes, and is not what is compared.
CONFIGURATION = """
[collect]
sources = ["{source}"]
output = "{output}"
javascript_modules = {modules}
missing_reference = "{missing}"
keep_originals = false
encodings = []
deltas = false
cache = ""
"""


@dataclass
class Result:
    """One package, collected by both."""

    package: Package
    modules: bool
    files: int = 0
    django: str = "ok"  # or why it fails
    ours: str = "ok"
    refusals: list[str] = field(default_factory=list)
    same: int = 0
    further: Counter = field(default_factory=Counter)  # kind to number
    further_places: list[str] = field(default_factory=list)
    stale: int = 0  # rewritten by Django to a name that nothing has
    damage: list[str] = field(default_factory=list)  # of Django, to what is no reference
    warnings: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)


# ---- Django


def run_django(source: Path, output: Path, modules: bool) -> str:
    """Collects into `output`. Answers with "ok" or why Django fails, and then collects what it can."""
    settings.configure(
        DEBUG=False,
        INSTALLED_APPS=["django.contrib.staticfiles"],
        STATIC_URL=PREFIX,
        STATIC_ROOT=str(output),
        STATICFILES_DIRS=[str(source)],
        STATICFILES_FINDERS=["django.contrib.staticfiles.finders.FileSystemFinder"],
    )
    django.setup()

    class Storage(ManifestStaticFilesStorage):
        support_js_module_import_aggregation = modules

        def post_process(self, paths, **options):
            # Which of several mistakes is told, and whether the passes suffice, shall not depend on the file system.
            yield from super().post_process(dict(sorted(paths.items())), **options)

    class Forgiving(Storage):
        """Leaves a reference that Django fails on as it is. One pass shows which ones it rewrites."""

        max_post_process_passes = 0

        def url_converter(self, *arguments):
            convert = super().url_converter(*arguments)

            def forgiving(match):
                try:
                    return convert(match)
                except (ValueError, SuspiciousFileOperation):
                    return match["matched"]

            return forgiving

        def post_process(self, paths, **options):
            for name, hashed, processed in super().post_process(paths, **options):
                if not isinstance(processed, Exception):
                    yield name, hashed, processed

    try:
        collect_with(Storage(location=str(output)))
    except (CommandError, SuspiciousFileOperation, UnicodeDecodeError) as error:
        collect_with(Forgiving(location=str(output)), clear=True)
        return why_django_fails(error)
    return "ok"


def collect_with(storage, **options) -> None:
    command = Collectstatic()
    command.storage = storage
    with open(os.devnull, "w") as nowhere:
        call_command(command, interactive=False, verbosity=0, stdout=nowhere, stderr=nowhere, **options)


def why_django_fails(error: Exception) -> str:
    text = str(error)
    if missing := re.match(r"The file '(.*?)' could not be found", text):
        referrer = re.search(r"'(.*)' contains this reference", text)
        if HASH.search(missing[1]):
            return f"fails: rewrites the reference to {plain_of(missing[1])} twice"
        return f"fails: {missing[1]} is missing" + (f", says {referrer[1]}" if referrer else "")
    if "Max post-process passes exceeded" in text:
        return "fails: a ring, or a chain of more than five"
    return f"fails: {text.splitlines()[0]}"


# ---- vestibule


def run_ours(binary: Path, source: Path, output: Path, modules: bool, result: Result) -> None:
    """Collects into `output`, and if that is refused, once more with missing files forgiven."""
    done = collect_ours(binary, source, output, modules, "error")
    if done.returncode:
        result.refusals = told(done, "error")
        said = result.refusals or [done.stdout + done.stderr]
        result.ours = f"refuses: {len(result.refusals)} missing" if result.refusals else f"fails: {said}"
        result.wrong += [f"vestibule refuses without a reason: {line}" for line in wrong_refusals(source, said)]
        done = collect_ours(binary, source, output, modules, "ignore")
        if done.returncode:
            result.wrong.append(f"vestibule fails although missing files are forgiven: {done.stdout}")
    result.warnings = told(done, "warning")


def told(done: subprocess.CompletedProcess, level: str) -> list[str]:
    """The findings of one level, a line each, as people get them."""
    findings = [finding for finding in json.loads(done.stdout)["findings"] if finding["level"] == level]
    return [":".join(str(part) for part in (f["file"], f["line"], f["column"]) if part) + f": {f['message']}" for f in findings]


def collect_ours(binary: Path, source: Path, output: Path, modules: bool, missing: str) -> subprocess.CompletedProcess:
    config = output.with_name("vestibule.toml")
    config.write_text(
        CONFIGURATION.format(source=source, output=output, modules=str(modules).lower(), missing=missing)
    )
    return subprocess.run(
        [binary, "collect", "--config", config, "--format", "json"],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        env={},
    )


def wrong_refusals(source: Path, said: list[str]) -> list[str]:
    """The reasons that are none: a refusal must name a file that really is not there."""
    missing = [re.search(r'but there is no "(.*?)"', reason) for reason in said]
    return [reason for reason, name in zip(said, missing) if not name or (source / name[1]).exists()]


# ---- the references of an output

HASH = re.compile(r"\.[0-9a-f]{12}(?![0-9a-f])")
# What can be part of a URL's folders and file name, in any of the languages.
URL_BEFORE = re.compile(r"""[^\s"'`()<>=,;{}]*$""")
NAME_AFTER = re.compile(r"""[^\s"'`()<>,;{}?#\\*/]*""")


class Tree:
    """An output folder, by its manifest."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.hashed = json.loads((folder / "staticfiles.json").read_text())["paths"]
        self.plain = {hashed: plain for plain, hashed in self.hashed.items()}

    def text_of(self, name: str) -> str:
        return read(self.folder / self.hashed[name])


@dataclass
class Restored:
    """A text with plain names instead of published ones."""

    text: str
    places: list[tuple[int, str]]  # where a file name was changed, and which file the URL means
    stale: int = 0  # references to a name that is not in the manifest


def restore(text: str, referrer: str, tree: Tree) -> Restored:
    pieces, places, done, length, stale = [], [], 0, 0, 0
    for found in HASH.finditer(text):
        before = URL_BEFORE.search(text, max(done, found.start() - 500), found.start())[0]
        url = before + found[0] + NAME_AFTER.match(text, found.end())[0]
        target = target_of(url, referrer)
        if target in tree.plain:
            target = tree.plain[target]
        elif plain_of(target) in tree.hashed and target not in tree.hashed:
            target, stale = plain_of(target), stale + 1
        else:
            continue
        pieces.append(text[done : found.start()])
        length += found.start() - done
        places.append((length, target))
        done = found.end()
    return Restored("".join(pieces) + text[done:], places, stale)


def target_of(url: str, referrer: str) -> str:
    """The path that a URL means, as text with one character for each byte became real characters again."""
    url = unquote(url.encode("latin-1").decode("utf-8", "replace"))
    if url.startswith(PREFIX):
        return posixpath.normpath(url.removeprefix(PREFIX))
    return posixpath.normpath(posixpath.join(posixpath.dirname(referrer), url))


def plain_of(hashed: str) -> str:
    return HASH.sub("", hashed)


def read(path: Path) -> str:
    """One character for each byte, so that places are the same in any encoding."""
    return path.read_bytes().decode("latin-1")


# ---- the comparison

# What Django writes anew around a reference.
QUOTING = re.compile(r"""url\(|[\s"'()]+""", re.IGNORECASE)


def without_quoting(text: str, places: list[tuple[int, str]]) -> tuple[str, list[tuple[int, str]]]:
    kept, done, length, starts, lengths = [], 0, 0, [0], [0]
    for quoting in QUOTING.finditer(text):
        kept.append(text[done : quoting.start()])
        length += quoting.start() - done
        done = quoting.end()
        starts.append(done)
        lengths.append(length)
    kept.append(text[done:])

    def moved(place: int) -> int:
        at = bisect.bisect_right(starts, place) - 1
        return lengths[at] + place - starts[at]

    return "".join(kept), [(moved(place), target) for place, target in places]


def compare(source: Path, django: Tree, ours: Tree, result: Result) -> None:
    result.files = len(ours.hashed)
    for name in sorted(django.hashed.keys() ^ ours.hashed.keys()):
        if name in ours.hashed or result.django == "ok":
            result.wrong.append(f"{name} is collected by {'vestibule' if name in ours.hashed else 'Django'} only")
    for name in sorted(ours.hashed):
        compare_file(source / name, name, django, ours, result)


def compare_file(path: Path, name: str, django: Tree, ours: Tree, result: Result) -> None:
    differs = [tree for tree in (django, ours) if name in tree.hashed and differs_from(path, tree, name)]
    if not differs:
        return
    source = read(path)
    plain_source, _ = without_quoting(source, [])
    theirs = set()
    if django in differs:
        restored = restore(django.text_of(name), name, django)
        result.stale += restored.stale
        plain, places = without_quoting(restored.text, restored.places)
        if plain != plain_source and plain.lower() == plain_source.lower():
            result.damage.append(f"{name}: {first_difference(plain, plain_source)}")
        elif plain != plain_source:
            result.wrong.append(f"{name}: Django changes more than names: {first_difference(plain, plain_source)}")
        theirs = set(places)
    restored = restore(ours.text_of(name), name, ours)
    if restored.text != source:
        result.wrong.append(f"{name}: vestibule changes more than names: {first_difference(restored.text, source)}")
    if restored.stale:
        result.wrong.append(f"{name}: {restored.stale} rewritten references of vestibule lead nowhere")
    _, places = without_quoting(source, restored.places)
    for place, target in sorted(theirs - set(places)):
        context = plain_source[max(0, place - 60) : place + 20]
        result.wrong.append(f"{name}: only Django rewrites the reference to {target}: …{context}…")
    result.same += len(theirs & set(places))
    for (place, target), moved in zip(restored.places, places):
        if moved not in theirs:
            result.further[kind_of(source, place, name)] += 1
            line = source.count("\n", 0, place) + 1
            result.further_places.append(f"{name}:{line}: …{source[max(0, place - 60) : place + 10]!r}…")


def differs_from(path: Path, tree: Tree, name: str) -> bool:
    return not filecmp.cmp(path, tree.folder / tree.hashed[name], shallow=False)


def first_difference(one: str, other: str) -> str:
    at = len(os.path.commonprefix([one, other]))
    return f"{one[max(0, at - 40) : at + 40]!r} instead of {other[max(0, at - 40) : at + 40]!r}"


def kind_of(source: str, place: int, name: str) -> str:
    if "sourceMappingURL=" in source[max(0, place - 300) : place].rsplit("\n", 1)[-1]:
        return "source map"
    return {".css": "style sheet", ".js": "import", ".mjs": "import"}.get(posixpath.splitext(name)[1].lower(), "other")


# ---- the report


def examine(job: tuple[Path, Package, bool]) -> Result:
    binary, package, modules = job
    source = (CORPUS / package.label).resolve()
    result = Result(package, modules)
    with tempfile.TemporaryDirectory(dir="target", prefix="corpus-") as work:
        django, ours = Path(work).resolve() / "django", Path(work).resolve() / "ours"
        result.django = run_django(source, django, modules)
        run_ours(binary, source, ours, modules, result)
        if result.django == "ok" and result.ours != "ok":
            result.wrong.append(f"Django succeeds, and vestibule {result.ours}")
        compare(source, Tree(django), Tree(ours), result)
    if result.django == "ok" and result.stale:
        result.django = f"ends well, but {counted(result.stale, 'reference')} lead nowhere"
    if result.django == "ok" and result.damage:
        result.django = f"ends well, but changes more than references in {counted(len(result.damage), 'file')}"
    return result


def report(results: list[Result]) -> str:
    sound = [result for result in results if not result.modules]
    with_modules = [result for result in results if result.modules]
    refusals = [result for result in results if result.refusals]
    return REPORT.format(
        django=django.get_version(),
        packages=len(sound),
        counts=counts(results),
        plain=table(sound),
        modules=table(with_modules),
        refusals="\n".join(refusal(result) for result in refusals) or "Nothing.",
    )


REPORT = """\
# Compatibility with collectstatic

Real packages, each collected by itself: by Django {django} with its `ManifestStaticFilesStorage`, and by
vestibule with the same settings. Every reference that one of them rewrites is compared in its place.
`tests/corpus/compare.py` does it as part of `make test` and wrote this page; what it holds against
vestibule fails the test.

{counts}

The columns: how many files; whether each of the two succeeds with its defaults; how many references both
rewrite to the same file; how many vestibule rewrites beyond that, by what they are. Where one of the two
refuses, its references were compared with missing files forgiven. How many passes Django needs depends on
the order in which the file system lists the files; here it is that of the alphabet.

## With the defaults

{plain}

## With imports rewritten

`support_js_module_import_aggregation = True` in a storage of the project's own, and `javascript_modules =
true`, for packages whose scripts import each other.

{modules}

## What vestibule refuses

Each of these files is named and is not there. `missing_reference = "warn"` publishes the package as it is.

{refusals}
"""


def counts(results: list[Result]) -> str:
    same, further = sum(result.same for result in results), sum(sum(result.further.values()) for result in results)
    return (
        f"Of {len(results)} runs, Django ends well in {sum(result.django == 'ok' for result in results)} and vestibule in "
        f"{sum(result.ours == 'ok' for result in results)}.\nBoth rewrite the same {same} references, Django none "
        f"besides, and vestibule {further} more."
    )


def table(results: list[Result]) -> str:
    rows = ["| package | files | Django | vestibule | in both | further |", "|---|--:|---|---|--:|---|"]
    for result in results:
        warnings = f", {counted(len(result.warnings), 'warning')}" if result.warnings else ""
        further = ", ".join(counted(number, kind) for kind, number in sorted(result.further.items()))
        rows.append(
            f"| {result.package.name} {result.package.version} | {result.files} | {result.django} "
            f"| {result.ours}{warnings} | {result.same} | {further} |"
        )
    return "\n".join(rows)


def refusal(result: Result) -> str:
    shown = "".join(f"\n  - `{line}`" for line in result.refusals[:SHOWN])
    others = len(result.refusals) - SHOWN
    more = f"\n  - and {others} more" if others > 0 else ""
    modules = ", with imports" if result.modules else ""
    return f"- {result.package.name}{modules}: {len(result.refusals)}{shown}{more}"


def counted(number: int, thing: str) -> str:
    return f"{number} {thing}{'' if number == 1 else 's'}"


def main(binary: Path, labels: list[str]) -> int:
    packages = read_packages()
    if absent := [package.label for package in packages if not (CORPUS / package.label).is_dir()]:
        print(f"these packages are not in {CORPUS}; run tests/setup: {' '.join(absent)}", file=sys.stderr)
        return 1
    wanted = [package for package in packages if not labels or package.label in labels]
    jobs = [(binary, package, modules) for package in wanted for modules in (False, True)[: package.has_modules + 1]]
    # The longest first, so that none is left over at the end.
    jobs.sort(key=lambda job: (job[2], size(CORPUS / job[1].label)), reverse=True)
    # A process for each job, because Django's settings can be made only once.
    with multiprocessing.get_context("fork").Pool(os.cpu_count(), maxtasksperchild=1) as pool:
        results = list(pool.imap_unordered(examine, jobs, chunksize=1))
    results.sort(key=lambda result: (result.modules, result.package.registry != "pypi", result.package.label))
    print(report(results), end="")
    for result in results:
        details = [*result.refusals, *result.warnings, *result.further_places, *result.damage] if labels else []
        for line in details + [f"wrong: {line}" for line in result.wrong]:
            print(f"{result.package.label}: {line}", file=sys.stderr)
    return 1 if any(result.wrong for result in results) else 0


def size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*"))


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]).resolve(), sys.argv[2:]))
