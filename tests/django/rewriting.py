"""
What Django's ManifestStaticFilesStorage makes of many small trees, each by itself.

Reads [{"modules": bool, "files": {name: text}}, …] as JSON from standard input. Writes a list with, for each
tree, {"paths": {name: hashed name}, "files": {name: rewritten text}}, or {"error": text} if Django fails.

`tests/django_rewriting.rs` compares that with what vestibule makes of them.
"""

import json
import sys
import tempfile
from pathlib import Path

from django.conf import settings

settings.configure(STATIC_URL="/static/", STATIC_ROOT="/nowhere")

import django  # noqa: E402

django.setup()

from django.contrib.staticfiles.storage import ManifestStaticFilesStorage, StaticFilesStorage  # noqa: E402


class WithModules(ManifestStaticFilesStorage):
    support_js_module_import_aggregation = True


def collected(tree):
    """One tree, as collectstatic would treat it after copying."""
    storage_class = WithModules if tree["modules"] else ManifestStaticFilesStorage
    with tempfile.TemporaryDirectory() as folder:
        source, output = Path(folder, "source"), Path(folder, "output")
        for name, text in tree["files"].items():
            for root in (source, output):
                path = root / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(text.encode("utf-8"))
        storage, original = storage_class(location=str(output)), StaticFilesStorage(location=str(source))
        try:
            for _, _, processed in storage.post_process({name: (original, name) for name in tree["files"]}):
                if isinstance(processed, Exception):
                    raise processed
        except Exception as error:
            return {"error": f"{type(error).__name__}: {error}"}
        paths = json.loads((output / "staticfiles.json").read_text())["paths"]
        files = {name: (output / hashed).read_bytes().decode("utf-8") for name, hashed in paths.items()}
        return {"paths": paths, "files": files}


if __name__ == "__main__":
    json.dump([collected(tree) for tree in json.load(sys.stdin)], sys.stdout)
