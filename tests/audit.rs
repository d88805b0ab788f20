//! `vestibule audit-templates`: it reports what Django raises an error for, and nothing else.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use vestibule::audit::{Audit, audit};

use crate::support::django_site::{Django, repository, succeed};

/// A manifest with these names, as Django writes it.
fn manifest(output: &Path, names: &[String]) {
    let pairs: Vec<_> = names.iter().map(|name| format!("{name:?}: {name:?}")).collect();
    fs_err::create_dir_all(output).unwrap();
    let text = format!("{{\"paths\": {{{}}}, \"version\": \"1.1\", \"hash\": \"\"}}", pairs.join(", "));
    fs_err::write(output.join("staticfiles.json"), text).unwrap();
}

fn write(folder: &Path, name: &str, text: &str) {
    let path = folder.join(name);
    fs_err::create_dir_all(path.parent().unwrap()).unwrap();
    fs_err::write(path, text).unwrap();
}

fn found(audit: &Audit) -> Vec<String> {
    audit.missing.iter().map(ToString::to_string).collect()
}

/// Names and tags that are easily taken for something else.
const TEMPLATES: [&str; 26] = [
    r#"{% static "css/a.css" %}"#,
    "{% static 'css/b.css' %}",
    "{% static 'css/a.css?v=1' %}{% static 'css/a.css?#iefix' %}{% static 'css/a.css#x' %}",
    "{% static 'my file.png' %}{% static 'my%20file.png' %}{% static 'my%2520file.png' %}",
    "{% static '%C3%A9.png' %}{% static 'é.png' %}{% static '%FF.png' %}",
    "{% static '/css/a.css' %}{% static './css/a.css' %}{% static 'css/../css/a.css' %}",
    "{% static 'css/' %}{% static 'css' %}{% static 'nowhere/' %}{% static '/' %}",
    "{% static '' %}{% static ' css/a.css' %}{% static 'css/a.css ' %}",
    "{% static 'https://example.com/a.css' %}{% static '//example.com/css/a.css' %}",
    "{% static 'a%23b' %}{% static 'a%3Fb' %}{% static 'x:a' %}{% static '1:a' %}{% static 'css\\\\a.css' %}",
    "{% static \"a\\\"b.css\" %}{% static 'a\"b.css' %}{% static 'it\\'s.css' %}",
    "{% static css %}{% static 'css/a.css'|upper %}{% static _('css/a.css') %}",
    "{% static 'css/a.css' as x %}{% static 'css/b.css' as x %}{{ x }}",
    "{% get_static_prefix %}{% get_static_prefix as x %}",
    "{# {% static 'css/b.css' %} #}{% static 'css/b.css' %}",
    "{# {% static 'css/b.css' %}\n #}",
    "{% comment %}{% static 'css/b.css' %}{% endcomment %}",
    "{% comment 'why' %}{% if %}{% endcomment x %}{% static 'css/b.css' %}{% endcomment %}",
    "{% verbatim %}{% static 'css/b.css' %}{{ x }}{% endverbatim %}{% static 'css/a.css' %}",
    "{% verbatim it %}{% endverbatim %}{% static 'css/b.css' %}{% endverbatim it %}{% static 'css/b.css' %}",
    "{% comment %}{% verbatim %}{% endcomment %}{% endverbatim %}{% static 'css/b.css' %}{% endcomment %}",
    "{% if a %}{% static 'css/b.css' %}{% else %}{% for a in b %}{% static 'css/c.css' %}{% endfor %}{% endif %}",
    "{% static\n'css/b.css' %}",
    "{{{% static 'css/b.css' %}{ {% static 'css/b.css' %}",
    "{%static 'css/b.css'%}{%   static   'css/b.css'   %}",
    "{% block x %}<p title=\"{% static 'css/é ü.css' %}\">{% endblock %}",
];

#[test]
fn what_is_reported_is_what_django_raises_an_error_for() {
    for django in [Django::Five2, Django::Six] {
        let folder = tempfile::tempdir().unwrap();
        let (output, ours) = (folder.path().join("out"), folder.path().join("templates"));
        for (number, text) in TEMPLATES.iter().enumerate() {
            write(&ours, &format!("{number}.html"), &format!("{{% load static %}}\n{text}"));
        }
        let contrib = Command::new(django.program("python"))
            .args(["-c", "import django.contrib as c; print(c.__path__[0], end='')"])
            .output()
            .unwrap();
        let contrib = PathBuf::from(String::from_utf8(contrib.stdout).unwrap());
        let folders = [ours, contrib.join("admin/templates"), contrib.join("admindocs/templates")];
        // The admin's stylesheets are there, and its scripts and pictures are not.
        let css = contrib.join("admin/static");
        let css = walkdir::WalkDir::new(css.join("admin/css")).into_iter().map(|entry| entry.unwrap().into_path());
        let names = css.filter(|path| path.is_file());
        let names =
            names.map(|path| path.strip_prefix(contrib.join("admin/static")).unwrap().to_str().unwrap().to_owned());
        let extra = ["css/a.css", "my file.png", "é.png", "a", "a\"b.css", "it's.css"].map(str::to_owned);
        manifest(&output, &names.chain(extra).collect::<Vec<_>>());

        let script = repository().join("tests/django/static_names.py");
        let told = succeed(Command::new(django.program("python")).arg(script).arg(&output).args(&folders)).stdout;
        let told: Vec<(String, Option<String>, bool)> = serde_json::from_slice(&told).unwrap();
        let audit = audit(&folders, Some(&output)).unwrap();

        let raised = told.iter().filter(|(.., raises)| *raises);
        let raised: BTreeSet<String> =
            raised.map(|(file, name, _)| format!("{file} {:?}", name.as_ref().unwrap())).collect();
        let reported = audit.missing.iter().map(|finding| {
            let name = finding.message.split(" is not in the manifest").next().unwrap();
            format!("{} {name}", finding.file)
        });
        assert_eq!(reported.collect::<BTreeSet<_>>(), raised, "{django:?}");
        // There was something to compare in the admin too, on both sides.
        assert!(raised.iter().filter(|one| one.contains("contrib")).count() > 10, "{raised:?}");
        let sound = told.iter().filter(|(_, name, raises)| name.is_some() && !raises).count();
        assert_eq!(audit.found, sound, "{django:?}");
        assert!(sound > 30, "{sound}");
        assert_eq!(audit.missing.len() + sound + audit.dynamic.len(), told.len(), "{django:?}: {:?}", audit.dynamic);
    }
}

#[test]
fn python_and_jinja_are_audited_with_places_and_suggestions() {
    let folder = tempfile::tempdir().unwrap();
    manifest(&folder.path().join("out"), &["shop/app.js".to_owned(), "shop/site.css".to_owned()]);
    let site = folder.path().join("site");
    write(&site, "shop/jinja2/shop/page.html", "<p>\n  {{ static('shop/sit.css') }}{{ static(\n'shop/app.js') }}");
    write(
        &site,
        "shop/forms.py",
        "class Form:\n    class Media:\n        js = ['app.js', '/shop/app.js']\n        css = {'all': [css]}\n",
    );
    write(&site, "shop/views.py", "from django.templatetags.static import static\nURL = 'é', static('none.png')\n");
    let audit = audit(std::slice::from_ref(&site), Some(&folder.path().join("out"))).unwrap();
    let place = |name: &str| site.join("shop").join(name).display().to_string();
    let expected = [
        format!("{}:3:15: \"app.js\" is not in the manifest (is \"shop/app.js\" meant?)", place("forms.py")),
        format!(
            "{}:2:13: \"shop/sit.css\" is not in the manifest (is \"shop/site.css\" meant?)",
            place("jinja2/shop/page.html")
        ),
        format!("{}:2:19: \"none.png\" is not in the manifest", place("views.py")),
    ];
    assert_eq!(found(&audit), expected);
    assert_eq!((audit.files, audit.found, audit.dynamic.len()), (3, 1, 1));
}

#[test]
fn what_is_not_the_projects_own_is_left_out_unless_named() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("site/out");
    manifest(&output, &[]);
    let site = folder.path().join("site");
    let bad = "{% static 'none.css' %}";
    for name in [
        ".git/a.html",
        "node_modules/x/a.html",
        "env/lib/a.html",
        "x/site-packages/y/templates/a.html",
        "x/__pycache__/a.html",
        "x/tests/templates/a.html",
        "out/a.html",
        "static/a.js",
    ] {
        write(&site, name, bad);
    }
    write(&site, "env/pyvenv.cfg", "");
    let python = "from django.templatetags.static import static\nstatic('none.css')\n";
    for name in ["x/test_a.py", "x/tests.py", "x/a_test.py", "conftest.py"] {
        write(&site, name, python);
    }
    write(&site, "templates/binary.html", &format!("{bad}\0"));
    write(&site, "templates/large.html", &format!("{bad}{}", " ".repeat(3 << 20)));
    fs_err::write(site.join("templates/latin.html"), [b"\xe9", bad.as_bytes()].concat()).unwrap();
    let told = audit(std::slice::from_ref(&site), Some(&output)).unwrap();
    assert_eq!((found(&told), told.files, told.too_large), (vec![], 0, 1));
    let odd: Vec<_> = told.unreadable.iter().map(ToString::to_string).collect();
    let latin = site.join("templates/latin.html");
    assert_eq!(odd, [format!("{}: it is not UTF-8, and was not looked into", latin.display())]);
    for named in ["x/site-packages/y", "node_modules", "x/tests", "x/test_a.py"] {
        let told = audit(&[site.join(named)], Some(&output)).unwrap();
        assert_eq!(told.missing.len(), 1, "for {named}");
    }
}

#[test]
fn the_command_ends_with_1_where_a_name_is_missing() {
    let folder = tempfile::tempdir().unwrap();
    manifest(&folder.path().join("out"), &["a.css".to_owned()]);
    write(folder.path(), "site/page.html", "{% static 'a.css' %}{% static b %}");
    let run = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_vestibule"));
        let output = command.arg("audit-templates").args(arguments).current_dir(folder.path()).env_clear().output();
        let output = output.unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    let (code, told) = run(&["site", "--output", "out"]);
    assert_eq!(code, Some(0), "{told}");
    assert!(told.starts_with("audited 1 file: 1 name in the manifest, 1 only known at run time ("), "{told}");
    let (code, told) = run(&["site", "--static", "out", "--dynamic"]);
    let expected = "note: site/page.html:1:31: {% static b %} is only known at run time\n";
    assert_eq!((code, told.starts_with(expected)), (Some(0), true), "{told}");
    write(folder.path(), "site/other.html", "\n{% static 'A.css' %}");
    let (code, told) = run(&["site", "--output", "out"]);
    assert_eq!(code, Some(1), "{told}");
    assert!(told.starts_with("error: site/other.html:2:11: \"A.css\" is not in the manifest"), "{told}");
    let (code, annotations) = run(&["site", "--output", "out", "--format", "github"]);
    assert_eq!(code, Some(1));
    assert!(annotations.starts_with("::error file=site/other.html,line=2,col=11"), "{annotations}");
    let (_, document) = run(&["site", "--output", "out", "--format", "json"]);
    let document: serde_json::Value = serde_json::from_str(&document).unwrap();
    let finding = &document["findings"][0];
    assert_eq!((&finding["reference"], &finding["suggestion"]), (&"A.css".into(), &"a.css".into()));
    assert_eq!(run(&["site", "--output", "nowhere"]).0, Some(2));
    assert_eq!(run(&["nowhere", "--output", "out"]).0, Some(2));
    assert_eq!(run(&["--output", "out"]).0, Some(2));
}
