//! `config/vestibule.toml` shows every option at its default.

use std::path::Path;

use vestibule::config::Config;
use vestibule::config::load::{is_list, known_keys};

fn example() -> String {
    fs_err::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("config/vestibule.toml")).unwrap()
}

#[test]
fn the_example_equals_the_defaults() {
    let config: Config = toml::from_str(&example()).unwrap();
    assert_eq!(config, Config::default());
}

#[test]
fn the_example_shows_every_option_in_its_table() {
    let text = example();
    for table in known_keys(None) {
        // A list of tables is empty by default.
        let header = if is_list(&table) { format!("\n#[[{table}]]\n") } else { format!("\n[{table}]\n") };
        let from = text.find(&header).unwrap_or_else(|| panic!("[{table}] is not shown"));
        let content = &text[from + 1..];
        let ends = ["\n[", "\n#[["].iter().filter_map(|next| content[1..].find(next));
        let content = &content[..ends.min().map_or(content.len(), |end| end + 1)];
        for key in known_keys(Some(&table)) {
            // An option without a default is shown commented out.
            let shown = [format!("\n{key} = "), format!("\n#{key} = ")].iter().any(|line| content.contains(line));
            assert!(shown, "[{table}] {key} is not shown");
        }
    }
}

#[test]
fn what_is_commented_out_is_valid_too() {
    let text: String = example()
        .lines()
        .map(|line| {
            line.strip_prefix('#')
                .filter(|rest| rest.starts_with(|c: char| c.is_ascii_lowercase() || c == '['))
                .unwrap_or(line)
        })
        .flat_map(|line| [line, "\n"])
        .collect();
    let config: Config = toml::from_str(&text).unwrap();
    assert_ne!(config, Config::default());
}
