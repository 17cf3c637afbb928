//! The authority of a cluster, what it signs, and files that change under a running node.

#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use holm_base::ClusterId;
use holm_link::{Identity, JoinToken, TokenError};
use holm_net::{Authority, LinkFiles, NetError, Rotating, signer_of_pem, trusted_of_pem};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

const DAY: Duration = Duration::from_secs(86_400);

struct Files {
    folder: tempfile::TempDir,
    authority: Authority,
}

impl Files {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::create("demo").unwrap();
        let path = |name: &str| folder.path().join(name);
        authority.save(&path("ca.pem"), &path("ca.key")).unwrap();
        Self { folder, authority }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn links(&self) -> LinkFiles {
        LinkFiles {
            certificate: self.path("n1.pem"),
            key: self.path("n1.key"),
            authorities: self.path("ca.pem"),
        }
    }

    fn issue(&self, node: &str) {
        let identity = Identity::new("demo", "north", node).unwrap();
        let issued = self.authority.issue(&identity, DAY).unwrap();
        let files = self.links();
        issued.save(&files.certificate, &files.key).unwrap();
    }

    fn load(&self) -> Result<Arc<Rotating>, NetError> {
        Rotating::load(self.links())
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn keys_are_readable_by_their_owner_alone_and_not_printed() {
    let files = Files::new();
    files.issue("n1");
    for key in ["ca.key", "n1.key"] {
        assert_eq!(mode(&files.path(key)), 0o600, "{key}");
    }
    let identity = Identity::new("demo", "north", "n1").unwrap();
    let issued = files.authority.issue(&identity, DAY).unwrap();
    let printed = format!("{issued:?} {:?}", files.authority);
    assert!(!printed.contains("PRIVATE"), "{printed}");
}

#[test]
fn of_several_authorities_the_key_says_which_signs_and_the_links_say_who_signed() {
    let files = Files::new();
    let next = Authority::create("demo").unwrap();
    let both = format!("{}{}", files.authority.certificate(), next.certificate());
    fs::write(files.path("ca.pem"), &both).unwrap();
    files.issue("n1");
    let load = |key: &str| Authority::load(&files.path("ca.pem"), &files.path(key));
    let old = load("ca.key").unwrap();
    assert_eq!(old.fingerprint(), files.authority.fingerprint());
    // Key and certificate in one file, which serves as either.
    let ready = files.path("next.pem");
    next.save_as_one(&ready).unwrap();
    assert_eq!(mode(&ready), 0o600);
    let kept = Authority::load(&ready, &ready).unwrap();
    assert_eq!(kept.certificate(), next.certificate());
    let taken = load("next.pem").unwrap();
    assert_eq!(taken.fingerprint(), next.fingerprint());
    let foreign = Authority::create("demo").unwrap();
    foreign.save_as_one(&files.path("foreign.pem")).unwrap();
    assert!(matches!(load("foreign.pem"), Err(NetError::NotItsKey)));

    let links = files.load().unwrap();
    assert_eq!(links.signed_by(), Some(old.fingerprint()));
    let trusted: Vec<[u8; 32]> = links.trusted().iter().map(|it| it.fingerprint).collect();
    assert_eq!(trusted, [old.fingerprint(), next.fingerprint()]);
    assert_eq!(trusted_of_pem(&both).unwrap(), links.trusted());
    let identity = Identity::new("demo", "north", "n1").unwrap();
    let renewed = taken.issue(&identity, DAY).unwrap();
    let signer = |authorities: &str| signer_of_pem(&renewed.certificate, authorities);
    assert_eq!(signer(&both), Some(next.fingerprint()));
    assert_eq!(signer(old.certificate()), None);
    renewed
        .save(&files.path("n1.pem"), &files.path("n1.key"))
        .unwrap();
    assert!(links.reload());
    assert_eq!(links.signed_by(), Some(next.fingerprint()));
    assert!(
        trusted_of_pem(&renewed.certificate).is_err(),
        "it signs nobody"
    );
    assert!(trusted_of_pem("-----BEGIN CERTIFICATE-----").is_err());
}

#[test]
fn a_loaded_authority_signs_what_the_saved_one_is_trusted_for() {
    let files = Files::new();
    let loaded = Authority::load(&files.path("ca.pem"), &files.path("ca.key")).unwrap();
    assert_eq!(loaded.fingerprint(), files.authority.fingerprint());
    assert_eq!(loaded.certificate(), files.authority.certificate());
    let identity = Identity::new("demo", "north", "n1").unwrap();
    let issued = loaded.issue(&identity, DAY).unwrap();
    let links = files.links();
    issued.save(&links.certificate, &links.key).unwrap();
    assert_eq!(files.load().unwrap().identity(), identity);
}

#[test]
fn changed_files_are_taken_and_bad_ones_leave_the_old_certificate() {
    let files = Files::new();
    files.issue("n1");
    let certificates = files.load().unwrap();
    assert!(!certificates.reload(), "nothing has changed");
    files.issue("n1");
    assert!(certificates.reload());
    let identity = certificates.identity();

    fs::write(files.path("n1.key"), "no key").unwrap();
    assert!(!certificates.reload());
    files.issue("n2");
    assert!(
        !certificates.reload(),
        "another node's certificate was taken"
    );
    assert_eq!(certificates.identity(), identity);

    fs::remove_file(files.path("ca.pem")).unwrap();
    assert!(!certificates.reload());
    files.issue("n1");
    let (pem, key) = (files.path("ca.pem"), files.path("ca.key"));
    files.authority.save(&pem, &key).unwrap();
    assert!(certificates.reload());
}

#[test]
fn what_cannot_serve_is_named() {
    let files = Files::new();
    assert!(matches!(files.load(), Err(NetError::Read { .. })));
    files.issue("n1");
    fs::write(files.path("ca.pem"), "").unwrap();
    assert!(matches!(files.load(), Err(NetError::NoCertificate { .. })));
    let (pem, key) = (files.path("ca.pem"), files.path("ca.key"));
    files.authority.save(&pem, &key).unwrap();
    // The authority's own certificate names no node.
    fs::copy(&pem, files.path("n1.pem")).unwrap();
    fs::copy(&key, files.path("n1.key")).unwrap();
    let refused = files.load().unwrap_err();
    assert!(
        refused.to_string().contains("holm://cluster/site/node"),
        "{refused}"
    );
    let bad = Authority::create("two words").unwrap_err();
    assert!(matches!(bad, NetError::Identity { .. }), "{bad}");
}

#[test]
fn a_join_token_names_this_authority_and_no_other() {
    let files = Files::new();
    let token = JoinToken {
        cluster: ClusterId::new(1),
        fingerprint: files.authority.fingerprint(),
        addresses: vec!["127.0.0.1:2380".to_owned()],
        secret: [1; 16],
        expires: 10,
    };
    let der = |pem: &str| CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
    let ours = der(files.authority.certificate());
    assert_eq!(token.check_authority(&ours), Ok(()));
    let other = Authority::create("demo").unwrap();
    let refused = token.check_authority(&der(other.certificate()));
    assert_eq!(refused, Err(TokenError::Authority));
}

#[test]
fn an_authority_with_the_key_of_another_is_refused_wherever_it_comes_from() {
    let (files, other) = (Files::new(), Files::new());
    let found = Authority::load(&files.path("ca.pem"), &files.path("ca.key"));
    assert!(found.is_ok(), "{found:?}");
    let found = Authority::load(&files.path("ca.pem"), &other.path("ca.key"));
    assert!(matches!(found, Err(NetError::NotItsKey)), "{found:?}");
    let text = |path: PathBuf| fs::read_to_string(path).unwrap();
    let found = Authority::from_pem(&text(files.path("ca.pem")), &text(other.path("ca.key")));
    assert!(matches!(found, Err(NetError::NotItsKey)), "{found:?}");
}
