//! Each trap of the types of value, by name: what goes wrong where one shortcut is taken.

use bytes::Bytes;
use holm_local_first::{
    Cause, Change, Exists, Island, Rules, Schema, Sealed, Slot, State, Type, Unfit, Vector,
    conflicts, path_text,
};

fn slot(number: u8) -> Slot {
    Slot::new(number).expect("slots begin at 1")
}

fn key() -> Bytes {
    Bytes::from("k")
}

fn body(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn rules(kind: Type) -> Rules {
    Rules {
        kind,
        ..Rules::default()
    }
}

/// A site with one key.
struct Site {
    rules: Rules,
    island: Island,
    state: State,
    told: Vec<(&'static str, String)>,
}

impl Site {
    fn new(number: u8, rules: &Rules) -> Self {
        Self {
            rules: rules.clone(),
            island: Island::new(slot(number), 1),
            state: State::new(),
            told: Vec::new(),
        }
    }

    fn change(&mut self, change: Change) -> Sealed {
        let sealed = self.island.originate(vec![change], 1_000);
        self.carry_out(&sealed);
        sealed
    }

    fn put(&mut self, text: &str) -> Sealed {
        let put = self.rules.put(&self.state, (key(), 0, body(text)));
        self.change(put.unwrap_or_else(|unfit| panic!("{text}: {unfit}")))
    }

    fn delete(&mut self) -> Sealed {
        self.change(self.rules.delete(key()))
    }

    fn take(&mut self, sealed: &Sealed) {
        self.island.take(sealed);
        self.carry_out(sealed);
    }

    fn carry_out(&mut self, sealed: &Sealed) {
        let before = self.state.clone();
        let change = &sealed.update.changes[0];
        change.apply(&sealed.update, &mut self.state);
        let cause = Cause::Update(&sealed.update, change);
        let met = conflicts(self.rules.kind, &key(), (&before, &self.state), cause, None);
        let named = met.iter().map(|it| (it.kind.name(), path_text(&it.path)));
        self.told.extend(named);
    }

    fn shown(&self) -> Option<String> {
        let shown = self.rules.kind.shown(&self.state)?;
        Some(String::from_utf8(shown.value.to_vec()).expect("it is text"))
    }

    /// Takes another's state in, as a session does.
    fn join(&mut self, other: &Self) {
        let (ours, theirs) = (
            (&self.state, self.island.vector()),
            (&other.state, other.island.vector()),
        );
        self.state = State::joined(ours, theirs);
    }
}

fn three(rules: &Rules) -> [Site; 3] {
    [1, 2, 3].map(|number| Site::new(number, rules))
}

#[test]
fn an_lww_loser_does_not_come_back_from_a_third_site() {
    // A has both and shows d2; C has only d2 and deletes it; d1 must be everywhere or nowhere.
    let [mut a, mut b, mut c] = three(&rules(Type::Lww));
    let d1 = a.put("d1");
    let d2 = b.put("d2");
    a.take(&d2);
    c.take(&d2);
    let gone = c.delete();
    a.take(&gone);
    c.take(&d1);
    assert_eq!(a.state, c.state);
    assert_eq!(
        a.shown().as_deref(),
        Some("d1"),
        "nobody who deleted saw it"
    );
}

#[test]
fn an_addition_that_is_concurrent_to_a_reset_brings_no_old_amounts_back() {
    let [mut a, mut b, _] = three(&rules(Type::Counter));
    for _ in 0..3 {
        let added = a.put("+100");
        b.take(&added);
    }
    let reset = b.put("5");
    let added = a.put("+1");
    a.take(&reset);
    b.take(&added);
    assert_eq!(a.shown().as_deref(), Some("6"), "a total would bring 301");
    assert_eq!(b.shown(), a.shown());
    assert_eq!(a.told, [], "additions and a base are no conflict");
}

#[test]
fn of_two_bases_one_is_shown_and_the_other_is_told() {
    let [mut a, mut b, _] = three(&rules(Type::Counter));
    let (one, other) = (a.put("10"), b.put("20"));
    a.take(&other);
    b.take(&one);
    let added = a.put("-3");
    b.take(&added);
    assert_eq!(b.shown().as_deref(), Some("17"));
    assert_eq!(a.told, [("base_lost", ".".into())]);
    assert_eq!(a.told, b.told);
}

#[test]
fn folded_and_not_folded_join_in_a_session() {
    let [mut a, mut b, mut c] = three(&rules(Type::Counter));
    for amount in ["+1", "+2", "+3", "+4"] {
        let added = a.put(amount);
        b.take(&added);
        c.take(&added);
    }
    let through = |seq| {
        let mut stable = Vector::new();
        stable.raise(slot(1), seq);
        stable
    };
    let (first, all) = (through(2), through(4));
    a.state.settle(&first);
    b.state.settle(&all);
    assert_eq!((a.state.runs().len(), a.state.deltas().len()), (1, 2));
    assert_eq!(
        a.state.digest(b"k"),
        b.state.digest(b"k"),
        "folding is no difference"
    );
    assert_eq!(a.state.digest(b"k"), c.state.digest(b"k"));
    assert_ne!(a.state.encode(), b.state.encode());
    // Of equal beginning the longer lives, one alone lives where its first does.
    a.join(&b);
    assert_eq!(a.state, b.state);
    c.join(&b);
    assert_eq!(c.state, b.state);
    assert_eq!(c.shown().as_deref(), Some("10"));
    // A run whose first is gone at the other side goes, however late it was folded.
    let reset = c.put("0");
    assert_eq!(reset.update.changes.len(), 1);
    b.join(&c);
    assert_eq!(b.shown().as_deref(), Some("0"));
}

#[test]
fn counters_refuse_what_is_no_number() {
    let rules = rules(Type::Counter);
    let put = |lease, text: &str| rules.put(&State::new(), (key(), lease, body(text)));
    for text in [
        "",
        "+",
        "1.5",
        "0x1",
        " 1",
        "9223372036854775808",
        "one",
        "+-1",
    ] {
        assert_eq!(put(0, text), Err(Unfit::Number), "{text:?}");
    }
    assert_eq!(put(7, "+1"), Err(Unfit::Lease));
    let amount = 9_223_372_036_854_775_807;
    assert_eq!(
        put(0, "+9223372036854775807"),
        Ok(Change::Add { key: key(), amount })
    );
    let plain = Change::Put {
        key: key(),
        lease: 7,
        value: body("12"),
    };
    assert_eq!(put(7, "0012"), Ok(plain));
    // More than 64 bits are shown as what they are.
    let mut site = Site::new(1, &rules);
    (0..3).for_each(|_| drop(site.put("+9223372036854775807")));
    assert_eq!(site.shown().as_deref(), Some("27670116110564327421"));
}

#[test]
fn a_put_does_not_take_the_marker_that_it_saw() {
    let mut deleting = rules(Type::Lww);
    deleting.exists = Exists::DeleteWins;
    let [mut a, mut b, mut c] = three(&deleting);
    let first = a.put("1");
    c.take(&first);
    let gone = a.delete();
    // B never saw the delete, and its put is concurrent to it.
    let unseen = b.put("2");
    c.take(&gone);
    let again = c.put("3");
    a.take(&again);
    for site in [&mut a, &mut c] {
        site.take(&unseen);
        assert_eq!(
            site.shown().as_deref(),
            Some("3"),
            "the put of b fell to the delete"
        );
        assert_eq!(site.told.last(), Some(&("delete_beat_put", ".".into())));
    }
    [first, gone, again].iter().for_each(|it| b.take(it));
    assert_eq!(b.shown().as_deref(), Some("3"));
    let told: Vec<&str> = b.told.iter().map(|it| it.0).collect();
    assert_eq!(told, ["concurrent_put", "delete_beat_put"]);
    assert_eq!((&a.state, &b.state), (&c.state, &c.state));
    // Once nothing concurrent can come, the marker goes, and the key is plain again.
    assert_eq!((a.state.markers().len(), a.state.is_plain()), (1, false));
    let everything = a.island.vector().clone();
    a.state.settle(&everything);
    assert!(a.state.is_plain());
}

#[test]
fn additions_that_fall_to_a_delete_are_told_at_both_sites() {
    let mut deleting = rules(Type::Counter);
    deleting.exists = Exists::DeleteWins;
    let [mut a, mut b, _] = three(&deleting);
    let (added, gone) = (a.put("+1"), b.delete());
    a.take(&gone);
    b.take(&added);
    assert_eq!((a.shown(), &a.state), (None, &b.state));
    assert_eq!(a.told, [("delete_beat_put", ".".into())]);
    assert_eq!(a.told, b.told);
}

#[test]
fn in_a_session_puts_fall_to_deletes_that_are_new_and_markers_do_not_go_on_a_peers_word() {
    let mut deleting = rules(Type::Lww);
    deleting.exists = Exists::DeleteWins;
    let [mut a, mut b, _] = three(&deleting);
    a.delete();
    b.put("2");
    let mut other = Site::new(3, &deleting);
    other.island = b.island.clone();
    other.state = b.state.clone();
    b.join(&a);
    assert_eq!(b.shown(), None);
    assert_eq!(
        b.state.markers().len(),
        1,
        "there is nothing to see, but something to know"
    );
    assert!(b.state.is_gone() && !b.state.is_empty());
    a.join(&other);
    assert_eq!(a.state, b.state);
    // The other side has forgotten it as stable; here it may still be needed.
    let mut forgot = Site::new(3, &deleting);
    forgot.island = a.island.clone();
    a.join(&forgot);
    assert_eq!(a.state.markers().len(), 1);
}

#[test]
fn members_of_a_set_stay_when_one_adds_and_another_removes() {
    let [mut a, mut b, _] = three(&rules(Type::Set));
    let first = a.put("in");
    b.take(&first);
    let gone = a.delete();
    let again = b.put("in");
    a.take(&again);
    b.take(&gone);
    assert_eq!((a.shown().as_deref(), &a.state), (Some("in"), &b.state));
    assert_eq!((a.told.len(), b.told.len()), (0, 0), "never reported");
}

#[test]
fn a_document_has_the_bytes_that_were_put_while_one_write_stands() {
    let [mut a, mut b, _] = three(&rules(Type::Json));
    let text = "{ \"b\": 1.50, \"a\": [1, 2], \"c\": {} }";
    let put = a.put(text);
    b.take(&put);
    assert_eq!(b.shown().as_deref(), Some(text));
    assert!(a.state.is_plain(), "a record says it all");
    let put = a.put("{\"b\": 1.50, \"a\": [1, 3], \"c\": {}}");
    assert!(matches!(put.update.changes[0], Change::Paths { .. }));
    b.take(&put);
    assert_eq!(b.shown().as_deref(), Some(r#"{"a":[1,3],"b":1.50,"c":{}}"#));
    // All is another: it is put as a whole, and stands as it was put.
    let put = a.put("{ \"d\": 2 }");
    assert!(matches!(put.update.changes[0], Change::Put { .. }));
    b.take(&put);
    assert_eq!(b.shown().as_deref(), Some("{ \"d\": 2 }"));
    assert_eq!(a.state, b.state);
}

#[test]
fn concurrent_changes_of_different_fields_all_count_and_of_one_the_later_is_shown() {
    let [mut a, mut b, _] = three(&rules(Type::Json));
    let first = a.put(r#"{"spec":{"image":"v1","size":1},"labels":{"x":"1"}}"#);
    b.take(&first);
    let one = a.put(r#"{"spec":{"image":"v2","size":1},"labels":{}}"#);
    let other = b.put(r#"{"spec":{"image":"v3","size":4},"labels":{"x":"1","y":"2"}}"#);
    a.take(&other);
    b.take(&one);
    let both = r#"{"labels":{"y":"2"},"spec":{"image":"v3","size":4}}"#;
    assert_eq!(a.shown().as_deref(), Some(both));
    assert_eq!(a.state, b.state);
    let told = [("path_lost", ".spec.image".to_owned())];
    assert_eq!((&a.told[..], &b.told[..]), (&told[..], &told[..]));
    // Putting what is shown settles it: both were seen.
    let settled = a.put(both);
    b.take(&settled);
    assert_eq!(
        b.state
            .rows()
            .iter()
            .filter(|it| path_text(&it.path) == ".spec.image")
            .count(),
        1
    );
    assert_eq!((b.shown().as_deref(), b.told.len()), (Some(both), 1));
}

#[test]
fn what_lives_in_a_map_beats_a_concurrent_scalar() {
    let [mut a, mut b, _] = three(&rules(Type::Json));
    let first = a.put(r#"{"m":{"x":1},"n":0}"#);
    b.take(&first);
    let scalar = a.put(r#"{"m":7,"n":0}"#);
    let deeper = b.put(r#"{"m":{"x":1,"y":2},"n":0}"#);
    a.take(&deeper);
    b.take(&scalar);
    assert_eq!(a.shown().as_deref(), Some(r#"{"m":{"y":2},"n":0}"#));
    assert_eq!(a.state, b.state);
    assert_eq!(a.told, [("path_lost", ".m".into())]);
    assert_eq!(a.told, b.told);
    let gone = a.put(r#"{"m":8,"n":0}"#);
    b.take(&gone);
    assert_eq!(b.shown().as_deref(), Some(r#"{"m":8,"n":0}"#));
}

#[test]
fn lists_merge_as_the_schema_of_kubernetes_says() {
    let schema = br#"{"type": "object", "properties": {
        "ports": {"type": "array", "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["port", "protocol"], "items": {"properties": {
                "flags": {"x-kubernetes-list-type": "set"}}}},
        "args": {"type": "array", "x-kubernetes-list-type": "atomic"},
        "selector": {"x-kubernetes-map-type": "atomic"}},
        "additionalProperties": {"x-kubernetes-list-type": "set"}}"#;
    let rules = Rules {
        kind: Type::Json,
        schema: Schema::parse(schema).expect("it is one"),
        ..Rules::default()
    };
    let [mut a, mut b, _] = three(&rules);
    let first = a.put(r#"{"ports":[{"port":80,"name":"web","flags":["f"]},{"port":9}],"args":["x"],"selector":{"a":1},"any":[2,1]}"#);
    b.take(&first);
    let one = a.put(r#"{"ports":[{"port":80,"name":"www","flags":["f","g"]}],"args":["x","y"],"selector":{"a":1,"b":1},"any":[2,1,7]}"#);
    let other = b.put(r#"{"ports":[{"port":80,"name":"web","flags":["f","h"]},{"port":9},{"port":443,"protocol":"UDP"}],"args":["z"],"selector":{"a":1,"c":1},"any":[1]}"#);
    a.take(&other);
    b.take(&one);
    assert_eq!(a.state, b.state);
    let both = r#"{"any":[1,7],"args":["z"],"ports":[{"flags":["f","g","h"],"name":"www","port":80},{"port":443,"protocol":"UDP"}],"selector":{"a":1,"c":1}}"#;
    assert_eq!(a.shown().as_deref(), Some(both));
    let told: Vec<&str> = a.told.iter().map(|it| &*it.1).collect();
    assert_eq!(told, [".args", ".selector"], "they are replaced as a whole");
    // One removes an item, the other changes a part of it: what is left has what tells it apart.
    let one = a.put(r#"{"ports":[],"args":["z"]}"#);
    let other = b.put(r#"{"ports":[{"port":80,"name":"x"}],"args":["z"]}"#);
    a.take(&other);
    b.take(&one);
    assert_eq!(
        b.shown().as_deref(),
        Some(r#"{"args":["z"],"ports":[{"name":"x","port":80}]}"#)
    );
    assert_eq!(a.state, b.state);
    let put = |text: &str| rules.put(&State::new(), (key(), 0, body(text)));
    assert_eq!(put(r#"{"ports":[{"name":"a"}]}"#), Err(Unfit::Keys));
    assert_eq!(put(r#"{"ports":[7]}"#), Err(Unfit::Keys));
    assert_eq!(put(r#"{"any":[[1]]}"#), Err(Unfit::Member));
    let twice = Unfit::Item { name: "1".into() };
    assert_eq!(put(r#"{"any":[1,2,1]}"#), Err(twice));
    let wrong = br#"{"x-kubernetes-list-type": "bag"}"#;
    assert!(matches!(Schema::parse(wrong), Err(Unfit::Schema { .. })));
    let keyless = br#"{"x-kubernetes-list-type": "map"}"#;
    assert!(matches!(Schema::parse(keyless), Err(Unfit::Schema { .. })));
}

#[test]
fn documents_have_limits_and_each_is_said() {
    let rules = rules(Type::Json);
    let put = |bytes: Vec<u8>| {
        rules
            .put(&State::new(), (key(), 0, Bytes::from(bytes)))
            .err()
    };
    let deep = |depth| [b"[".repeat(depth), b"]".repeat(depth)].concat();
    assert_eq!(put(deep(64)), None);
    assert_eq!(put(deep(66)), Some(Unfit::Depth));
    assert_eq!(put(vec![b'"', 0xff, b'"']), Some(Unfit::Utf8));
    assert_eq!(put(b" ".repeat((1 << 20) + 1)), Some(Unfit::Length));
    let wide = |count: usize| {
        let fields: Vec<String> = (0..count).map(|it| format!("\"{it}\":0")).collect();
        format!("{{{}}}", fields.join(",")).into_bytes()
    };
    assert_eq!(put(wide(9_999)), None);
    assert_eq!(put(wide(10_000)), Some(Unfit::Paths));
    let twice = Unfit::Twice { name: "a".into() };
    assert_eq!(put(br#"{"a":1,"a":2}"#.to_vec()), Some(twice));
    let wrong = [
        "",
        "{",
        "[1,]",
        "01",
        "1.",
        "-",
        "nul",
        "\"\\x\"",
        "\"\n\"",
        "{\"a\"}",
        "1 2",
        "\"\\ud800\"",
        "\"\\ud800\\u0041\"",
        "+1",
        "1e",
        "{1:2}",
        "[",
        "\"",
        "'a'",
    ];
    for text in wrong {
        let found = put(text.as_bytes().to_vec());
        assert!(
            matches!(found, Some(Unfit::Syntax { .. })),
            "{text:?}: {found:?}"
        );
    }
    for text in [
        "null",
        "-0.5e-3",
        "\"\\ud83d\\ude00\\u0041\\/\"",
        " [ 1 , {} ] ",
        "\"\u{7f}\"",
    ] {
        assert_eq!(put(text.as_bytes().to_vec()), None, "{text:?}");
    }
}

#[test]
fn a_document_that_is_deleted_while_a_part_is_written_keeps_that_part() {
    let [mut a, mut b, _] = three(&rules(Type::Json));
    let first = a.put(r#"{"x":1,"y":1}"#);
    b.take(&first);
    let gone = a.delete();
    let part = b.put(r#"{"x":1,"y":2}"#);
    a.take(&part);
    b.take(&gone);
    assert_eq!(a.state, b.state);
    assert_eq!(a.shown().as_deref(), Some(r#"{"y":2}"#));
    assert_eq!(b.told, [("put_beat_delete", ".".into())]);
}

#[test]
fn a_clock_a_year_ahead_wins_among_concurrent_writes_only() {
    for kind in [Type::Lww, Type::Counter] {
        let [mut a, mut b, _] = three(&rules(kind));
        let put = a
            .rules
            .put(&State::new(), (key(), 0, body("1")))
            .expect("it fits");
        let ahead = a.island.originate(vec![put], 31_536_000_000);
        a.carry_out(&ahead);
        b.take(&ahead);
        let seen = b.put("2");
        a.take(&seen);
        assert_eq!(a.shown().as_deref(), Some("2"), "it saw the other");
        assert_eq!((a.told.len(), a.state.siblings().len()), (0, 1));
    }
}
