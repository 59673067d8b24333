//! The table of prepared queries: names, templates, indexes, rows.

use serde_json::json;

use super::*;

fn query(name: &str, is_template: bool) -> Definition {
    let kind = if is_template { "name_prefix_match" } else { "" };
    let query =
        json!({ "Name": name, "Template": { "Type": kind }, "Service": { "Service": "web" } });
    Definition::read(&query.to_string(), true).unwrap()
}

fn table(all: &[(&str, &str, bool)]) -> Table {
    let mut table = Table::default();
    for (index, (id, name, is_template)) in (1..).zip(all) {
        let id: Text = (*id).into();
        table.set(index, &id, &query(name, *is_template), true, &mut Touched::default()).unwrap();
    }
    table
}

fn found(table: &Table, name: &str) -> Option<String> {
    table.find(&name.into()).map(|entry| entry.id.to_string())
}

#[test]
fn a_name_is_found_before_the_longest_template_that_takes_it() {
    let all = [
        ("1", "geo-web", false),
        ("2", "", true),
        ("3", "geo-", true),
        ("4", "geo-W", true),
        ("5", "gf", true),
    ];
    let table = table(&all);
    for (name, id) in [
        ("geo-web", "1"),
        ("GEO-WEB", "1"),
        ("geo-webs", "4"),
        ("geo-db", "3"),
        ("geo", "2"),
        ("x", "2"),
        ("3", "3"),
        ("gé", "2"),
    ] {
        assert_eq!(found(&table, name).as_deref(), Some(id), "{name}");
    }
    let bare = self::table(&all[..1]);
    assert_eq!(found(&bare, "other"), None);
}

#[test]
fn names_are_given_once_and_free_again_when_they_change() {
    let mut table = table(&[("1", "a", false), ("2", "a", true)]);
    let mut touched = Touched::default();
    let refused = table.set(5, &"3".into(), &query("A", false), true, &mut touched).unwrap_err();
    assert_eq!(&*refused.sentence, "name 'A' aliases an existing query name");
    let refused = table.set(5, &"4".into(), &query("b", false), false, &mut touched).unwrap_err();
    assert_eq!(&*refused.sentence, "Cannot modify non-existent prepared query: '4'");
    assert_eq!((table.index(), touched.queries), (2, false));
    table.set(6, &"1".into(), &query("b", false), false, &mut touched).unwrap();
    assert_eq!(
        (found(&table, "b").as_deref(), found(&table, "a").as_deref()),
        (Some("1"), Some("2"))
    );
    let entry = table.get("1").unwrap();
    assert_eq!((entry.create_index, entry.modify_index), (1, 6));
    table.delete(7, &"2".into(), &mut touched).unwrap();
    assert!(table.delete(8, &"2".into(), &mut touched).is_err());
    assert_eq!((found(&table, "ab"), table.index(), touched.queries), (None, 7, true));
    table.delete(9, &"1".into(), &mut touched).unwrap();
    assert_eq!(table.bytes, 0);
}

#[test]
fn rows_make_the_same_table() {
    let table = table(&[("1", "a", false), ("2", "a", true), ("3", "", true)]);
    let mut restored = Table::default();
    let first = table.after(None).next().unwrap();
    restored.restore(first.1);
    table.after(Some(&first.0)).for_each(|(_, row)| restored.restore(row));
    restored.restore_index(table.index());
    assert_eq!(restored, table);
}

#[test]
fn there_is_room_for_so_much() {
    let mut table = table(&[("1", "a", false)]);
    assert!(table.check_room("2", &query("b", false)).is_ok());
    table.bytes = BYTES_MAX;
    assert!(table.check_room("2", &query("b", false)).is_err());
    assert!(table.check_room("1", &query("b", false)).is_ok());
}
