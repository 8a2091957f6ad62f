//! The tests' own footing: servers, client and waits do what they promise.

use std::time::Duration;

use crate::support::proxy::{Fault, Proxy, Rule, Side};
use crate::support::servers::{READER, STRANGER};
use crate::support::{Client, Server, pattern, sha256, wait_until};

/// A server may serve several runs.
fn own_bucket(name: &str) -> String {
    format!("{name}-{}", std::process::id())
}

#[test]
fn the_client_sees_in_each_server_what_it_put() {
    for server in [Server::shared(), Server::moto()] {
        let client = Client::new(server);
        let bucket = &own_bucket("round-trip");
        client.create_bucket(bucket);
        let body = pattern(70_000, 1);
        let headers = (Some("image/png"), [("mode", "33188")]);
        client.put_with(bucket, "a/ü b.png", &body, headers.0, &headers.1);
        let got = client.get(bucket, "a/ü b.png").unwrap();
        assert_eq!(sha256(&got), sha256(&body));
        let head = client.head(bucket, "a/ü b.png").unwrap();
        assert_eq!(head.size_bytes, 70_000);
        assert_eq!(head.content_type.as_deref(), Some("image/png"));
        assert_eq!(head.metadata["mode"], "33188");
        let listed = client.list(bucket, "a/");
        assert_eq!(listed, [("a/ü b.png".to_owned(), 70_000)]);
        client.delete(bucket, "a/ü b.png");
        assert_eq!(client.get(bucket, "a/ü b.png"), None);
        assert!(client.head(bucket, "a/ü b.png").is_none());
    }
}

#[test]
fn the_reader_may_not_write_and_the_stranger_may_not_read() {
    let server = Server::seaweedfs();
    let owner = Client::new(server);
    let bucket = &own_bucket("guarded");
    owner.create_bucket(bucket);
    owner.put(bucket, "a", b"1");
    let reader = Client::with(server, &READER);
    assert_eq!(reader.get(bucket, "a").unwrap(), b"1");
    assert!(!reader.try_put(bucket, "a", b"2"));
    let stranger = Client::with(server, &STRANGER);
    assert!(!stranger.try_put(bucket, "a", b"2"));
    assert!(stranger.try_get(bucket, "a").is_err());
}

#[test]
fn a_killed_server_refuses_and_many_objects_arrive_whole() {
    let server = Server::private();
    let client = Client::new(&server);
    client.create_bucket("many");
    client.put_many(
        "many",
        (0..1200).map(|i| (format!("k{i:04}"), vec![b'x'; i])),
    );
    let listed = client.list("many", "");
    assert_eq!(listed.len(), 1200);
    assert_eq!(listed[1199], ("k1199".to_owned(), 1199));
    server.kill();
    assert!(!client.try_put("many", "late", b"x"));
}

#[test]
#[should_panic(expected = "pigs fly")]
fn waiting_in_vain_panics_with_its_reason() {
    wait_until(Duration::from_millis(50), "pigs fly", || false);
}

#[test]
fn a_request_at_a_gate_is_applied_later_though_its_client_has_hung_up() {
    let server = Server::shared();
    let client = Client::new(server);
    let bucket = own_bucket("held");
    client.create_bucket(&bucket);
    let proxy = Proxy::before(server);
    let gate = proxy.hold(
        Side::BeforeServer,
        Rule::on("PutObject", Fault::Pass).key("d/*"),
    );
    let hasty = Client::at(&proxy.endpoint, server);
    hasty.put_until(|| gate.held() > 0, &bucket, "d/a", b"late");
    assert_eq!(client.get(&bucket, "d/a"), None);
    gate.open();
    proxy.wait_until_idle();
    assert_eq!(client.get(&bucket, "d/a").unwrap(), b"late");
}
