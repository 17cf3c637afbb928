//! Signed tokens of each family, and what must not pass.

use super::*;

const RSA: &[u8] = include_bytes!("tests/rsa.pem");
const RSA_PUBLIC: &[u8] = include_bytes!("tests/rsa-public.pem");
const EC: &[u8] = include_bytes!("tests/ec.pem");
const EC_PUBLIC: &[u8] = include_bytes!("tests/ec-public.pem");

fn config(method: &str, private: Option<&[u8]>, public: Option<&[u8]>) -> TokenConfig {
    TokenConfig::Jwt(JwtConfig {
        method: method.to_owned(),
        public_key: public.map(<[u8]>::to_vec),
        private_key: private.map(<[u8]>::to_vec),
        lifetime: Duration::from_secs(60),
    })
}

fn ann() -> Caller {
    Caller {
        user: "ann".to_owned(),
        auth_revision: 5,
    }
}

fn give(tokens: &Tokens) -> String {
    tokens
        .give(&ann(), "", (Time::ZERO, Op::new(1)))
        .expect("there is a key to sign with")
}

#[test]
fn signed_tokens_of_each_family_name_the_user_and_the_revision() {
    for (method, private, public) in [
        ("RS256", RSA, Some(RSA_PUBLIC)),
        ("PS512", RSA, None),
        ("ES256", EC, Some(EC_PUBLIC)),
        ("ES256", EC, None),
        ("HS256", b"secret", None),
    ] {
        let tokens = Tokens::new(&config(method, Some(private), public)).unwrap();
        let token = give(&tokens);
        assert_eq!(
            tokens.caller(&token, Time::ZERO, 9, |_, _| true),
            Ok(ann()),
            "{method}"
        );
    }
}

#[test]
fn a_public_key_checks_and_gives_none() {
    let signer = Tokens::new(&config("RS256", Some(RSA), None)).unwrap();
    let checker = Tokens::new(&config("RS256", None, Some(RSA_PUBLIC))).unwrap();
    let token = give(&signer);
    assert_eq!(
        checker.caller(&token, Time::ZERO, 0, |_, _| true),
        Ok(ann())
    );
    let refused = checker
        .give(&ann(), "", (Time::ZERO, Op::new(1)))
        .unwrap_err();
    assert_eq!(refused.code(), Code::Unknown);
}

#[test]
fn forged_and_foreign_tokens_are_refused() {
    let tokens = Tokens::new(&config("RS256", Some(RSA), None)).unwrap();
    let token = give(&tokens);
    let mut forged = token;
    forged.pop();
    // A public key must never be taken for a shared secret.
    let confused = Tokens::new(&config("HS256", Some(RSA_PUBLIC), None)).unwrap();
    for bad in [forged, give(&confused), "abc".to_owned(), String::new()] {
        let refused = tokens.caller(&bad, Time::ZERO, 5, |_, _| true);
        assert_eq!(refused, Err(errors::invalid_auth_token()), "{bad}");
    }
}

#[test]
fn an_expired_signed_token_is_refused() {
    let TokenConfig::Jwt(mut config) = config("HS256", Some(b"secret"), None) else {
        unreachable!("it is a signed one")
    };
    config.lifetime = Duration::ZERO;
    let tokens = Tokens::new(&TokenConfig::Jwt(config)).unwrap();
    let refused = tokens.caller(&give(&tokens), Time::ZERO, 5, |_, _| true);
    assert_eq!(refused, Err(errors::invalid_auth_token()));
}

#[test]
fn keys_that_do_not_fit_are_told_at_start() {
    let told = |config| {
        Tokens::new(&config)
            .expect_err("it does not fit")
            .to_string()
    };
    assert!(told(config("RS256", Some(EC), None)).contains("private key"));
    assert!(told(config("RS256", None, Some(b"x"))).contains("public key"));
    assert!(told(config("XX1", Some(RSA), None)).contains("sign-method `XX1`"));
    assert!(told(config("RS256", None, None)).contains("need priv-key"));
}
