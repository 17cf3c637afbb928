//! Visits to a desk: who is asked, who asks, and what neither hears.
#![allow(
    clippy::unwrap_used,
    reason = "tests: an unwrap that fails fails the test"
)]

mod nodes;

use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use holm_link::Identity;
use holm_net::{
    Authority, Desk, LinkFiles, NodeKey, Rotating, Trust, VisitError, requested_key, term_of_pem,
    visit,
};
use nodes::{Cluster, within};

/// Says who asked what, and remembers it.
#[derive(Debug, Default)]
struct Echo {
    heard: Mutex<Vec<String>>,
}

impl Desk for Echo {
    fn answer(
        &self,
        whom: Option<Identity>,
        question: Vec<u8>,
    ) -> Pin<Box<dyn Future<Output = Vec<u8>> + Send + '_>> {
        let whom = whom.map_or_else(|| "nobody".to_owned(), |whom| whom.to_string());
        let said = format!("{whom} asks {}", String::from_utf8(question).unwrap());
        self.heard.lock().unwrap().push(said.clone());
        Box::pin(async move { said.into_bytes() })
    }
}

async fn ask(address: &str, trust: &Trust, question: &str) -> Result<String, VisitError> {
    let answer = within(visit(address, trust, question.as_bytes())).await?;
    Ok(String::from_utf8(answer).unwrap())
}

#[tokio::test]
async fn a_newcomer_is_answered_by_the_cluster_that_it_was_told_of_and_by_no_other() {
    let cluster = Cluster::new("shop");
    let echo = Arc::new(Echo::default());
    let desk: Arc<dyn Desk> = Arc::<Echo>::clone(&echo);
    let node = cluster.start_with(1, |config| config.desk = Some(desk));
    let address = node.peers.address().to_string();
    let known = Trust::Fingerprint(cluster.fingerprint());
    assert_eq!(
        ask(&address, &known, "may I?").await.unwrap(),
        "nobody asks may I?"
    );
    let other = Trust::Fingerprint(Cluster::new("shop").fingerprint());
    let refused = ask(&address, &other, "a secret").await.unwrap_err();
    assert!(matches!(refused, VisitError::Stranger { .. }), "{refused}");
    assert_eq!(echo.heard.lock().unwrap().len(), 1, "the secret never left");
}

#[tokio::test]
async fn a_member_is_known_by_its_certificate_and_a_foreign_one_is_refused() {
    let cluster = Cluster::new("shop");
    let desk: Arc<dyn Desk> = Arc::<Echo>::default();
    let node = cluster.start_with(1, |config| config.desk = Some(desk));
    let address = node.peers.address().to_string();
    cluster.issue(2);
    let member = Trust::Member(Rotating::load(cluster.files("n2")).unwrap());
    assert_eq!(
        ask(&address, &member, "renew").await.unwrap(),
        "holm://shop/here/n2 asks renew"
    );
    let foreign = Cluster::new("shop");
    foreign.issue(2);
    let files = LinkFiles {
        authorities: cluster.files("n1").authorities,
        ..foreign.files("n2")
    };
    let foreign = Trust::Member(Rotating::load(files).unwrap());
    let refused = ask(&address, &foreign, "renew").await.unwrap_err();
    let text = refused.to_string();
    assert!(text.contains("it is of another cluster"), "{text}");
}

#[tokio::test]
async fn a_node_without_a_desk_and_a_question_beyond_the_limit_are_named() {
    let cluster = Cluster::new("shop");
    let closed = cluster.start(1);
    let known = Trust::Fingerprint(cluster.fingerprint());
    let address = closed.peers.address().to_string();
    assert!(ask(&address, &known, "may I?").await.is_err());
    let desk: Arc<dyn Desk> = Arc::<Echo>::default();
    let open = cluster.start_with(2, |config| config.desk = Some(desk));
    let address = open.peers.address().to_string();
    let long = "x".repeat((64 << 10) + 1);
    let refused = ask(&address, &known, &long).await.unwrap_err();
    assert!(
        refused.to_string().contains("beyond the limit"),
        "{refused}"
    );
    let longest = "x".repeat((64 << 10) - 20);
    assert!(ask(&address, &known, &longest).await.is_ok());
}

#[tokio::test]
async fn a_clock_ten_years_off_is_what_both_ends_are_told_of() {
    let cluster = Cluster::new("shop");
    let desk: Arc<dyn Desk> = Arc::<Echo>::default();
    let node = cluster.start_with(1, |config| config.desk = Some(desk));
    let address = node.peers.address().to_string();
    // What a site's certificate looks like if its clock, or ours, is ten years off.
    for (id, years) in [(2, (2016, 2017)), (3, (2096, 2097))] {
        cluster.issue_between(id, years);
        let files = cluster.files(&format!("n{id}"));
        let member = Trust::Member(Rotating::load(files).unwrap());
        let refused = ask(&address, &member, "renew").await.unwrap_err();
        let text = refused.to_string();
        assert!(
            text.contains("our certificate is out of its time: compare the clocks"),
            "{text}"
        );
    }
    let late = cluster.start_between(4, (2016, 2017));
    let early = cluster.start_between(5, (2096, 2097));
    cluster.introduce(&[&node, &late, &early]);
    let said = node.error("expired").await;
    assert!(
        said.contains("days ago by our clock: compare the clocks"),
        "{said}"
    );
    let said = node.error("not valid for another").await;
    assert!(
        said.contains("days by our clock: compare the clocks"),
        "{said}"
    );
}

#[test]
fn a_key_is_signed_for_whom_the_authority_says_and_stays_where_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("key.pem");
    let key = NodeKey::kept(&path).unwrap();
    let again = NodeKey::kept(&path).unwrap();
    assert_eq!(key.pem(), again.pem(), "a second look finds the same");
    let (one, two) = (key.request().unwrap(), again.request().unwrap());
    assert_eq!(requested_key(&one).unwrap(), requested_key(&two).unwrap());
    let authority = Authority::create("shop").unwrap();
    let identity = Identity::new("shop", "b", "b").unwrap();
    let hour = Duration::from_secs(3_600);
    let certificate = authority.sign(&one, &identity, hour).unwrap();
    let term = term_of_pem(&certificate).unwrap();
    assert!(term.until > std::time::SystemTime::now());
    let mut forged = one;
    *forged.last_mut().unwrap() ^= 1;
    assert!(authority.sign(&forged, &identity, hour).is_err());
    assert!(!format!("{key:?}").contains("PRIVATE"));
}

#[test]
fn an_authority_is_handed_over_whole_or_not_at_all() {
    let authority = Authority::create("shop").unwrap();
    let again = Authority::from_pem(authority.certificate(), &authority.key()).unwrap();
    assert_eq!(again.fingerprint(), authority.fingerprint());
    let other = Authority::create("shop").unwrap();
    let mixed = Authority::from_pem(authority.certificate(), &other.key()).unwrap_err();
    assert!(mixed.to_string().contains("do not fit together"), "{mixed}");
}
