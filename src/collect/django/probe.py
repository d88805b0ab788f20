"""
Asks a Django project where its static files are.

`vestibule collect --django` runs this once, with the project's own Python:

    python -c PROBE ANSWER_FILE MANAGE_PY SETTINGS

It loads the settings as manage.py would, asks the finders, and writes one JSON document to ANSWER_FILE: settings may
print what they like. No command of the project runs. An empty MANAGE_PY or SETTINGS means that none was named. It
needs nothing but Django 4.2 or newer, and Python 3.8.
"""

import json
import os
import re
import runpy
import sys
import traceback

# Longer messages help nobody, and the answer is read into memory.
MESSAGE_LIMIT = 2000


class Refusal(Exception):
    """A reason of our own why there is no answer."""

    def __init__(self, kind, message=""):
        super().__init__(message)
        self.kind = kind


def load(manage_py, settings):
    """Does what manage.py does before it runs a command."""
    folder = os.path.dirname(os.path.abspath(manage_py)) if manage_py else os.getcwd()
    # With -c, Python itself has put the current folder there.
    if sys.path and sys.path[0] == "":
        sys.path[0] = folder
    else:
        sys.path.insert(0, folder)
    try:
        import django
    except ModuleNotFoundError as error:
        if error.name != "django":
            raise
        raise Refusal("no_django", sys.version.split()[0])
    if django.VERSION < (4, 2):
        raise Refusal("old_django", django.__version__)
    if settings:
        os.environ["DJANGO_SETTINGS_MODULE"] = settings
    if manage_py:
        run_without_command(manage_py)
        if settings:
            os.environ["DJANGO_SETTINGS_MODULE"] = settings
    if not os.environ.get("DJANGO_SETTINGS_MODULE"):
        raise Refusal("no_settings")
    django.setup()


def run_without_command(manage_py):
    """Runs manage.py for the sake of its settings module, paths and .env files, with the command left out."""
    from django.core import management

    management.execute_from_command_line = lambda argv=None: None
    management.ManagementUtility.execute = lambda self: None
    sys.argv = [manage_py, "collectstatic"]
    try:
        runpy.run_path(manage_py, run_name="__main__")
    except SystemExit as exit:
        # `sys.exit(main())` is how some end, and not a failure.
        if exit.code not in (None, 0):
            raise


def describe():
    import django
    from django.apps import apps
    from django.conf import settings

    try:
        staticfiles = apps.get_app_config("staticfiles")
    except LookupError:
        raise Refusal("no_staticfiles")
    from django.contrib.staticfiles import finders

    ignore = [str(pattern) for pattern in staticfiles.ignore_patterns]
    folders = []
    for finder in finders.get_finders():
        folders.extend(folders_of(finder, ignore))
    apps_by_folder = {os.path.join(app.path, "static"): app.name for app in apps.get_app_configs()}
    for folder in folders:
        folder["app"] = apps_by_folder.get(folder["path"]) if not folder["prefix"] else None
    return {
        "django": django.__version__,
        "environment": sys.prefix,
        "settings": os.environ["DJANGO_SETTINGS_MODULE"],
        "static_url": text(settings.STATIC_URL),
        "static_root": text(settings.STATIC_ROOT),
        "storage": describe_storage(),
        "ignore": ignore,
        "folders": folders,
    }


def folders_of(finder, ignore):
    """
    The folders that a finder takes files from, in its order.

    A finder lists files, each with a storage. For most that is everything in the storage's folder; where it is not,
    the files are listed too.
    """
    from django.contrib.staticfiles.finders import AppDirectoriesFinder, FileSystemFinder

    name = "%s.%s" % (type(finder).__module__, type(finder).__qualname__)
    groups = {}

    def group(storage):
        prefix = text(getattr(storage, "prefix", None)) or ""
        path = folder_of(storage)
        key = (prefix, path or id(storage))
        if key not in groups:
            kind = "%s.%s" % (type(storage).__module__, type(storage).__qualname__)
            groups[key] = (storage, [], {"finder": name, "storage": kind, "prefix": prefix, "path": path})
        return groups[key]

    # A folder may still be empty, or not be there yet.
    storages = getattr(finder, "storages", None)
    for storage in storages.values() if isinstance(storages, dict) else ():
        group(storage)
    for path, storage in finder.list(ignore):
        group(storage)[1].append(path.replace("\\", "/"))

    takes_all = type(finder) in (AppDirectoriesFinder, FileSystemFinder)
    for storage, listed, folder in groups.values():
        if not listed and not takes_all:
            continue
        folder["exists"] = bool(folder["path"]) and os.path.isdir(folder["path"])
        folder["only"] = None
        folder["elsewhere"] = None
        if folder["path"] and not takes_all:
            folder["elsewhere"] = next((name for name in listed if not lies_in(storage, folder["path"], name)), None)
            if set(listed) != everything_in(storage, ignore):
                folder["only"] = sorted(set(listed))
        yield folder


def folder_of(storage):
    """The folder of a storage, or None for one that has none, such as a bucket."""
    try:
        return os.path.abspath(storage.path(""))
    except NotImplementedError:
        return None


def lies_in(storage, folder, name):
    return os.path.abspath(storage.path(name)) == os.path.abspath(os.path.join(folder, name))


def everything_in(storage, ignore):
    from django.contrib.staticfiles.utils import get_files

    try:
        return {path.replace("\\", "/") for path in get_files(storage, ignore)}
    except OSError:
        return None


def describe_storage():
    """What the storage of static files is, without making one: that could fail for want of a STATIC_ROOT."""
    from django.contrib.staticfiles.storage import ManifestFilesMixin
    from django.core.files.storage import FileSystemStorage, storages
    from django.utils.module_loading import import_string

    backend = storages.backends["staticfiles"]["BACKEND"]
    cls = import_string(backend) if isinstance(backend, str) else backend
    return {
        "name": text(backend),
        "reads_manifest": issubclass(cls, ManifestFilesMixin),
        "is_local": issubclass(cls, FileSystemStorage),
        "javascript_modules": bool(getattr(cls, "support_js_module_import_aggregation", False)),
    }


def text(value):
    """Settings may be lazy strings, or paths."""
    return None if value is None else str(value)


def said(error):
    """What an exception says; its own __str__ may fail."""
    try:
        return str(error.code) if isinstance(error, SystemExit) else str(error)
    except Exception as second:
        return "(its message cannot be told: __str__ raised %s)" % type(second).__name__


def without_surrogates(value):
    """
    The value with no text in it that is not Unicode, and the first such text.

    Python reads a byte of a path or of a variable that is not UTF-8 as half a character, which no other program reads.
    """
    if isinstance(value, str):
        try:
            value.encode("utf-8")
        except UnicodeEncodeError:
            return value.encode("utf-8", "backslashreplace").decode("utf-8"), value
        return value, None
    if isinstance(value, dict):
        pairs = [(key, *without_surrogates(item)) for key, item in value.items()]
        return {key: item for key, item, _ in pairs}, next((bad for _, _, bad in pairs if bad), None)
    if isinstance(value, (list, tuple)):
        items = [without_surrogates(item) for item in value]
        return [item for item, _ in items], next((bad for _, bad in items if bad), None)
    return value, None


def explain(error):
    """What went wrong, and the last place in the project's own code on the way to it."""
    frames = traceback.extract_tb(error.__traceback__)
    files = [frame for frame in reversed(frames) if not frame.filename.startswith("<")]
    # Else in a package; a line of the standard library tells nobody anything.
    own = (frame for frame in files if is_own(frame.filename))
    installed = (frame for frame in files if is_installed(frame.filename))
    place = next(own, None) or next(installed, None)
    file, line, code = (place.filename, place.lineno, place.line) if place else (None, None, None)
    if isinstance(error, SyntaxError) and error.filename:
        file, line, code = error.filename, error.lineno, (error.text or "").strip()
    message = said(error)
    kind = error.kind if isinstance(error, Refusal) else "exception"
    settings = os.environ.get("DJANGO_SETTINGS_MODULE", "")
    if isinstance(error, ModuleNotFoundError) and error.name and (settings + ".").startswith(error.name + "."):
        kind, message = "no_settings_module", settings
    return {
        "kind": kind,
        "type": type(error).__name__,
        "message": message[:MESSAGE_LIMIT],
        "file": file,
        "line": line,
        "code": code and code[:MESSAGE_LIMIT],
        "variable": missing_variable(error),
        "module": error.name if isinstance(error, ModuleNotFoundError) else None,
    }


def is_own(filename):
    """Whether a file is the project's, as opposed to Python's, a package's, or this one."""
    path = os.path.abspath(filename)
    foreign = [os.path.dirname(os.__file__), sys.prefix, sys.base_prefix]
    if is_installed(path):
        return False
    return not any(path.startswith(folder.rstrip(os.sep) + os.sep) for folder in foreign if folder not in ("/", "/usr"))


def is_installed(filename):
    """Whether a file is that of an installed package."""
    parts = os.path.abspath(filename).split(os.sep)
    return "site-packages" in parts or "dist-packages" in parts


def missing_variable(error):
    """The environment variable for want of which the settings did not load, if that is why."""
    seen = []
    while error is not None and not any(error is other for other in seen):
        seen.append(error)
        frames = traceback.extract_tb(error.__traceback__)
        if isinstance(error, KeyError) and error.args and frames:
            last = frames[-1]
            if last.name == "__getitem__" and os.path.basename(last.filename) in ("os.py", "<frozen os>"):
                return str(error.args[0])
        found = re.search(
            r"\b([A-Z][A-Z0-9_]+)[\"']? environment variable"
            r"|[Ee]nvironment variable[: ]+[\"']?([A-Z][A-Z0-9_]+)\b"
            r"|^([A-Z][A-Z0-9_]+) not found\. Declare it as envvar",
            said(error),
        )
        if found:
            return next(group for group in found.groups() if group)
        error = error.__cause__ or error.__context__
    return None


def main(answer_file, manage_py, settings):
    try:
        load(manage_py, settings)
        answer = describe()
    # SystemExit too: a settings module may call sys.exit.
    except BaseException as error:
        answer = {"error": explain(error)}
    answer, bad = without_surrogates(answer)
    if bad and "error" not in answer:
        answer = {"error": dict(explain(Refusal("not_unicode")), message=without_surrogates(bad)[0])}
    with open(answer_file, "w", encoding="ascii") as file:
        json.dump(answer, file)
    # At once: a thread that an app has started would keep Python from ending.
    os._exit(0)


main(*sys.argv[1:4])
