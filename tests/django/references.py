"""
What the files of an output folder refer to, by their plain names.

    references.py collect TREE OUTPUT    lets Django's ManifestStaticFilesStorage collect a tree
    references.py list OUTPUT            prints {file: [files it names, in order]} as JSON

`tests/django.rs` compares the second for Django's output and for ours.
"""

import json
import posixpath
import re
import sys
from pathlib import Path
from urllib.parse import unquote

# A hashed name; a space in it is written as it is by Django, and as %20 by us.
HASHED = re.compile(r"(?:[\w./@-]|%20|(?<=\w) (?=\w+\.[0-9a-f]))*\.[0-9a-f]{12}(?:\.\w+)?")


def collect(tree, output):
    """Let Django do it, with ES modules, which it leaves alone unless told otherwise."""
    from django.conf import settings
    from django.contrib.staticfiles.storage import ManifestStaticFilesStorage
    from django.core.management import call_command

    ManifestStaticFilesStorage.support_js_module_import_aggregation = True
    settings.configure(
        INSTALLED_APPS=["django.contrib.staticfiles"],
        STATICFILES_DIRS=[tree],
        STATIC_ROOT=output,
        STATIC_URL="/static/",
        STORAGES={"staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.ManifestStaticFilesStorage"}},
    )
    import django

    django.setup()
    call_command("collectstatic", interactive=False, verbosity=0)


def references(output):
    """Each file of the manifest, with the plain names of the hashed names that stand in it."""
    output = Path(output)
    paths = json.loads((output / "staticfiles.json").read_text())["paths"]
    plain = {hashed: name for name, hashed in paths.items()}
    found = {}
    for name, hashed in sorted(paths.items()):
        found[name] = []
        if not name.endswith((".css", ".js")):
            continue
        for text in HASHED.findall((output / hashed).read_text(encoding="utf-8")):
            folder = posixpath.dirname(posixpath.join("/static", name))
            target = posixpath.normpath(posixpath.join(folder, unquote(text))).removeprefix("/static/")
            # What is no file of ours is a number in a script, or somebody else's hash.
            if target in plain:
                found[name].append(plain[target])
    return found


if __name__ == "__main__":
    if sys.argv[1] == "collect":
        collect(*sys.argv[2:])
    else:
        json.dump(references(sys.argv[2]), sys.stdout)
