//! What a module may use is what it is granted, and nothing else. Real files, a real HTTP server, a real guest that tries.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::routing::{get, post};
use tempfile::TempDir;
use weir_host::config::Config;
use weir_host::guest::{Failure, OpenReason, TrapCause};
use weir_host::wasm::{Grants, HttpGrant, Limits, Need, ProcessorOptions, SecretSource};

use super::support::*;

/// Everything that `courier` imports, with an HTTP that leads nowhere yet.
fn all() -> Grants {
    Grants {
        clocks: true,
        random: true,
        secrets: BTreeMap::from([("token".to_owned(), SecretSource::Value("hunter2\n".into()))]),
        http: Some(HttpGrant::default()),
        ..Grants::default()
    }
}

/// What the courier brings for these commands.
async fn fetch(grants: Grants, commands: &[&str]) -> Vec<String> {
    let options = ProcessorOptions { grants, ..ProcessorOptions::new("courier") };
    let answer = run(options, commands).await.unwrap();
    answer.outputs.iter().map(|output| String::from_utf8(output.body.to_vec()).unwrap()).collect()
}

async fn run(options: ProcessorOptions, commands: &[&str]) -> Result<weir_host::guest::Answer, Failure> {
    let module = module(&engine(), "courier").await;
    let processor = module.processor(options).unwrap();
    let mut guest = processor.open(opening(&serde_json::json!({}), OpenReason::FirstStart)).await?;
    guest.process(batch(commands)).await
}

#[tokio::test]
async fn a_module_that_imports_more_is_refused_with_what_to_grant() {
    let module = module(&engine(), "courier").await;
    let refused = |grants| {
        let options = ProcessorOptions { grants, ..ProcessorOptions::new("courier") };
        module.processor(options).err().map(|error| error.to_string())
    };
    let sentence = refused(Grants::default()).expect("it has nothing");
    for remedy in ["[processor.grants]", "clocks = true", "secrets = { NAME", "http = { allow = [\"https://"] {
        assert!(sentence.contains(remedy), "{sentence}");
    }
    let sentence = refused(Grants { http: None, ..all() }).expect("it has no HTTP");
    assert!(sentence.contains("http = {") && !sentence.contains("clocks"), "{sentence}");
    assert_eq!(refused(all()), None);
    let directories = BTreeMap::from([("/data".to_owned(), "/nowhere/at/all".into())]);
    let sentence = refused(Grants { directories, ..all() }).expect("no such directory");
    assert!(sentence.contains("/nowhere/at/all that is granted as \"/data\" is not there"), "{sentence}");
}

#[tokio::test]
async fn types_alone_need_no_grant() {
    let identity = module(&engine(), "identity").await;
    assert_eq!(identity.report().needs.iter().collect::<Vec<_>>(), Vec::<&Need>::new(), "{}", identity.report());
    let interface = |name: &str, item: &str| {
        let text = format!(
            r#"(component
                (import "{name}" (instance {item}))
                (component $nothing) (instance $empty (instantiate $nothing))
                (export "weir:processor/processor@0.1.0" (instance $empty)))"#
        );
        weir_host::wasm::inspect(&wat::parse_str(text).unwrap()).needs
    };
    let types = r#"(type $d u64) (export "duration" (type (eq $d)))"#;
    assert!(interface("wasi:clocks/monotonic-clock@0.2.6", types).is_empty());
    let calls = r#"(type $d u64) (export "duration" (type (eq $d))) (export "now" (func (result u64)))"#;
    assert_eq!(interface("wasi:clocks/monotonic-clock@0.2.6", calls).into_iter().collect::<Vec<_>>(), [Need::Clocks]);
    let calls = r#"(export "get-random-u64" (func (result u64)))"#;
    assert_eq!(interface("wasi:random/random@0.2.0", calls).into_iter().collect::<Vec<_>>(), [Need::Random]);

    // Types of every kind before it: which one an import means is counted through them all.
    let text = r#"(component
        (type $plain u64)
        (core type $core (func))
        (import "other:package/things@1.0.0" (instance $things (export "thing" (type (sub resource)))))
        (alias export $things "thing" (type $thing))
        (import "a-type" (type (eq $plain)))
        (type $function (func (param "a" u64)))
        (export $exported "its-type" (type $plain))
        (type $none (instance (type $d u64) (export "duration" (type (eq $d)))))
        (type $some (instance (export "now" (func (result u64)))))
        (import "wasi:clocks/monotonic-clock@0.2.6" (instance (type $none)))
        (import "wasi:random/random@0.2.6" (instance (type $some)))
        (component $nothing) (instance $empty (instantiate $nothing))
        (export "weir:processor/processor@0.1.0" (instance $empty)))"#;
    let needs = weir_host::wasm::inspect(&wat::parse_str(text).unwrap()).needs;
    assert_eq!(needs.into_iter().collect::<Vec<_>>(), [Need::Random]);
}

#[test]
fn each_example_is_granted_what_it_needs() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
    let mut seen = 0;
    for entry in fs::read_dir(examples).unwrap() {
        let file = entry.unwrap().path().join("weir.toml");
        if !file.is_file() {
            continue;
        }
        let processor = Config::load(&file).unwrap().processors.remove(0);
        let module = fs::read(weir_tests::guests::guest(&processor.name)).unwrap();
        let granted = |need: &Need| match need {
            Need::Clocks => processor.grants.clocks,
            Need::Random => processor.grants.random,
            Need::Secrets | Need::Http => false,
        };
        let lacks: Vec<_> = weir_host::wasm::inspect(&module).needs.into_iter().filter(|need| !granted(need)).collect();
        assert!(lacks.is_empty(), "{}: {lacks:?}", file.display());
        seen += 1;
    }
    assert!(seen >= 5, "{seen} examples");
}

#[tokio::test]
async fn variables_secrets_and_the_time() {
    let environment = BTreeMap::from([("REGION".to_owned(), "west".to_owned())]);
    let got = fetch(
        Grants { environment, ..all() },
        &["env:REGION", "env:PATH", "env:HOME", "secret:token", "secret:other", "now"],
    );
    let got = got.await;
    assert_eq!(got[0], "west");
    assert_eq!(got[1], "error: environment variable not found");
    assert_eq!(got[2], got[1]);
    assert_eq!(got[3], "hunter2");
    assert_eq!(got[4], "error: the secret \"other\" is not granted; add it to [processor.grants.secrets]");
    assert_eq!(got[5], "true");
}

#[tokio::test]
async fn directories_are_read_and_never_written_or_left() {
    let directory = TempDir::new().unwrap();
    let data = directory.path().join("data");
    fs::create_dir(&data).unwrap();
    fs::write(directory.path().join("outside.txt"), "outside").unwrap();
    fs::write(data.join("inside.txt"), "inside").unwrap();
    symlink("../outside.txt", data.join("link")).unwrap();
    symlink("/etc/passwd", data.join("absolute")).unwrap();
    let directories = BTreeMap::from([("/airports".to_owned(), data.clone())]);
    let commands = [
        "read:/airports/inside.txt",
        "list:/airports",
        "read:/airports/../outside.txt",
        "read:/airports/link",
        "read:/airports/absolute",
        "read:/etc/passwd",
        "write:/airports/new.txt",
        "write:/airports/inside.txt",
    ];
    let got = fetch(Grants { directories, ..all() }, &commands).await;
    assert_eq!(got[0], "inside");
    assert_eq!(got[1], "absolute,inside.txt,link");
    for (command, got) in commands.iter().zip(&got).skip(2) {
        assert!(got.starts_with("error: "), "{command}: {got}");
    }
    assert_eq!(fs::read_to_string(data.join("inside.txt")).unwrap(), "inside");
    assert!(!data.join("new.txt").exists());
}

/// A server on this machine; the port it listens on.
async fn server() -> u16 {
    async fn to(place: String) -> impl IntoResponse {
        (StatusCode::FOUND, [("location", place)])
    }
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let chunks =
        || futures::stream::iter(std::iter::repeat_n(Ok::<_, std::convert::Infallible>(vec![b'x'; 1000]), 100));
    let app = Router::new()
        .route("/ok", get(|| async { "ok" }))
        .route("/home", get(move || async move { to(format!("http://127.0.0.1:{port}/ok")).await }))
        .route("/away", get(|| to("http://169.254.169.254/metadata/instance".into())))
        .route("/alias", get(move || async move { to(format!("http://localhost:{port}/ok")).await }))
        .route("/big", get(|| async { vec![b'x'; 100_000] }))
        .route("/chunks", get(move || async move { axum::body::Body::from_stream(chunks()) }))
        .route("/never", get(std::future::pending::<&str>))
        .route("/count", post(|body: axum::body::Bytes| async move { body.len().to_string() }));
    tokio::spawn(async move { axum::serve(listener, app).await });
    port
}

fn http(allow: &[&str], networks: &[&str]) -> HttpGrant {
    HttpGrant {
        allow: allow.iter().map(|origin| origin.parse().unwrap()).collect(),
        networks: networks.iter().map(|network| network.parse().unwrap()).collect(),
        ..HttpGrant::default()
    }
}

async fn fetch_by(http: HttpGrant, commands: &[String]) -> Vec<String> {
    let commands: Vec<&str> = commands.iter().map(String::as_str).collect();
    fetch(Grants { http: Some(http), ..all() }, &commands).await
}

#[tokio::test]
async fn requests_go_where_the_list_says_and_redirects_lead_nowhere_else() {
    let log = Log::capture();
    let port = server().await;
    let at = |command: &str| command.replace("HERE", &format!("http://127.0.0.1:{port}"));
    let commands = [
        "get:HERE/ok",
        "post:1000:HERE/count",
        "get:HERE/away",
        "follow:HERE/home",
        "follow:HERE/away",
        "follow:HERE/alias",
        "get:http://169.254.169.254/metadata/instance",
        "get:http://2852039166/metadata/instance",
        "get:http://[::ffff:169.254.169.254]/metadata/instance",
        "get:http://168.63.129.16/machine",
        "get:https://example.com/",
    ]
    .map(at);
    let got = fetch_by(http(&[&at("HERE")], &[]), &commands).await;
    assert_eq!(got[..4], ["200 ok", "200 1000", "302 ", "200 ok"]);
    for (command, got) in commands.iter().zip(&got).skip(4) {
        assert!(got.contains("ErrorCode::HttpRequestDenied"), "{command}: {got}");
    }
    let said = log.lines("HTTP: http://169.254.169.254 is not granted");
    assert!(said.iter().any(|line| line.contains("`allow` of [processor.grants.http]")), "{said:?}");
    assert!(said.iter().all(|line| line.contains("processor=courier") && line.contains("partition=0")), "{said:?}");
}

#[tokio::test]
async fn a_name_in_the_list_is_no_way_to_addresses_that_are_not() {
    let log = Log::capture();
    let port = server().await;
    let name = format!("http://localhost:{port}");
    let commands = [format!("get:{name}/ok")];
    let got = fetch_by(http(&[&name], &[]), &commands).await;
    assert!(got[0].contains("ErrorCode::DestinationIpProhibited"), "{}", got[0]);
    let said = log.lines("HTTP: localhost resolves to ");
    assert!(
        said.iter().any(|line| line.contains("127.0.0.1") && line.contains("`networks` of [processor.grants.http]")),
        "{said:?}"
    );
    assert_eq!(fetch_by(http(&[&name], &["127.0.0.0/8", "::1/128"]), &commands).await, ["200 ok"]);
}

#[tokio::test]
async fn sizes_and_time_are_bounded() {
    let port = server().await;
    let here = format!("http://127.0.0.1:{port}");
    let small = |grant: HttpGrant| HttpGrant { request_bytes: 10_000, response_bytes: 10_000, ..grant };
    let commands = ["get:HERE/big", "get:HERE/chunks", "post:10000:HERE/count", "post:10001:HERE/count", "get:HERE/ok"]
        .map(|command| command.replace("HERE", &here));
    let got = fetch_by(small(http(&[&here], &[])), &commands).await;
    assert!(got[0].contains("HttpResponseBodySize(Some(100000))"), "{}", got[0]);
    assert!(got[1].contains("size exceeds limit: 10000 bytes"), "{}", got[1]);
    assert_eq!(got[2], "200 10000");
    assert!(got[3].starts_with("error: "), "{}", got[3]);
    assert_eq!(got[4], "200 ok", "what went before harms nothing");

    let never = [format!("get:{here}/never"), format!("get:{here}/ok")];
    let brief = HttpGrant { timeout: Duration::from_millis(50), ..http(&[&here], &[]) };
    let got = fetch_by(brief, &never).await;
    assert!(got[0].contains("HttpResponseTimeout"), "{}", got[0]);
    assert_eq!(got[1], "200 ok");

    let limits = Limits { time: Duration::from_millis(50), ..Limits::default() };
    let grants = Grants { http: Some(http(&[&here], &[])), ..all() };
    let options = ProcessorOptions { grants, limits, ..ProcessorOptions::new("courier") };
    let report = trap(run(options, &[&never[0]]).await);
    assert_eq!(report.cause, TrapCause::Deadline);
    assert!(report.message.contains("raise limits.time, or wait less"), "{}", report.message);
}
