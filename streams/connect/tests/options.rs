//! Words behind WITH that a connector does not know are refused: they would do nothing, unseen.

use holm_sql::parse;

mod refusals;

use refusals::pointed;

fn table(options: &str) -> String {
    format!("CREATE TABLE t (n INT) WITH ({options}); SELECT n FROM t")
}

#[test]
fn what_a_connector_does_not_know_is_refused_at_its_word() {
    for (options, word, said) in [
        (
            "'connector'='mqtt', 'topics'='a'",
            "'topics'",
            "mqtt knows no option 'topics'; it knows 'connector', 'format', 'late', 'dedup', 'idle', 'retain', 'url', \
             'topic', 'user', 'password-file', 'ca', 'cert', 'key'; did you mean 'topic'?\n",
        ),
        (
            "'connector'='mqtt', 'url'='mqtt://h', 'path'='x'",
            "'path'",
            "mqtt knows no option 'path'; it knows 'connector',",
        ),
        (
            "'path'='x', 'Format'='csv', 'connector'='FILE'",
            "'Format'",
            "; did you mean 'format'?\n",
        ),
        (
            "'conector'='file', 'path'='x'",
            "'conector'",
            "a table without a connector knows no option 'conector'; did you mean 'connector'?\n",
        ),
        (
            "'connector'='stdin', 'scan.startup.mode'='latest'",
            "'scan.startup.mode'",
            "stdin knows no option 'scan.startup.mode'; it knows 'connector'",
        ),
    ] {
        let query = table(options);
        let refusal = parse(&query).expect_err(&query).to_string();
        assert!(refusal.contains(said), "{refusal}");
        assert_eq!(pointed(&refusal, &query), word, "{refusal}");
    }
}

#[test]
fn what_it_knows_is_taken() {
    for options in [
        "'connector'='file', 'path'='x', 'follow'='false', 'format'='csv', 'late'='side'",
        "'connector'='http', 'url'='http://h', 'interval'='1 s', 'token-file'='t', 'ca'='a', 'cert'='c', 'key'='k'",
        "'connector'='http', 'url'='http://h', 'guarantee'='at-least-once'",
        "'connector'='mqtt', 'url'='mqtts://h', 'topic'='a', 'user'='u', 'password-file'='p', 'retain'='all'",
        "'connector'='keyspace', 'keyspace'='s', 'prefix'='p', 'dedup'='n', 'idle'='1 s'",
        // Tables that the command line gives a file, whatever they are elsewhere.
        "'connector'='kafka', 'properties.bootstrap.servers'='h'",
        "'topic'='a', 'path'='b'",
    ] {
        let query = table(options);
        parse(&query).expect(&query);
    }
}
