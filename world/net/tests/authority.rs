//! The authority of a cluster, what it signs, and files that change under a running node.

#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use holm_base::ClusterId;
use holm_link::{Identity, JoinToken, TokenError};
use holm_net::{Authority, LinkFiles, NetError, Rotating};
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
