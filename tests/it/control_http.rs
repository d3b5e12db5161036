//! The HTTP face: forms of requests and answers, limits, refusals.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use cidfs::config::{FOLLOWERS_MAX, OPERATIONS_MAX, PARAMS_BYTES_MAX};
use cidfs::control::client::Client;
use cidfs::control::{Call, ErrorKind, Output, Registry};
use cidfs::testing::dag::Dag;
use futures::TryStreamExt;
use serde_json::{Value, json};

use crate::control_world::World;

const MCP: &str = "/api/v0/mcp";

fn bytes_of(text: &str) -> (Dag, String) {
    let mut dag = Dag::default();
    let file = dag.leaf(text.to_owned());
    let root = dag.directory(&[("a", file), ("b", file)]);
    (dag, root.to_string())
}

#[tokio::test]
async fn an_answer_says_how_it_went_and_how_long_it_took() {
    let world = World::new(Dag::default());
    let (status, answer) = world.get(&format!("{MCP}/health")).await;
    assert_eq!(status, 200);
    assert_eq!(answer["success"], true);
    assert_eq!(answer["status"], "ok");
    assert!(answer["operation_id"].is_string() && answer["duration_ms"].is_u64());
}

#[tokio::test]
async fn every_call_has_an_id_of_its_own() {
    let world = World::new(Dag::default());
    let (_, first) = world.get(&format!("{MCP}/health")).await;
    let (_, second) = world.get(&format!("{MCP}/health")).await;
    assert_ne!(first["operation_id"], second["operation_id"]);
}

#[tokio::test]
async fn an_unknown_operation_is_refused_by_name() {
    let world = World::new(Dag::default());
    for path in [format!("{MCP}/no/such"), "/elsewhere".to_owned()] {
        let (status, answer) = world.get(&path).await;
        assert_eq!(status, 404, "{path}");
        assert_eq!(answer["success"], false);
        assert_eq!(answer["error"]["kind"], "unknown_operation");
        assert!(answer["error"]["hint"].is_string());
    }
}

#[tokio::test]
async fn an_address_that_is_not_utf8_and_a_wrong_method_are_refused_in_json() {
    let world = World::new(Dag::default());
    for path in [format!("{MCP}/%ff"), format!("{MCP}/a%c3%28b?x=%ff")] {
        let (status, answer) = world.get(&path).await;
        assert_eq!(status, 400, "{path}: {answer}");
        assert_eq!(answer["success"], false, "{path}");
        assert_eq!(answer["error"]["kind"], "invalid", "{path}");
    }
    for (path, status) in [("/%ff", 404), ("/api/v0/openapi.json", 405)] {
        let (got, answer) = world.post(path, "").await;
        assert_eq!((got, &answer["success"]), (status, &json!(false)), "{path}");
    }
}

#[tokio::test]
async fn who_follows_takes_no_place_of_operations_and_one_too_many_is_told() {
    let world = World::new(Dag::default());
    let client = Client::find(world.dir.path()).await.unwrap().unwrap();
    let follow = async || {
        let call = Call::with(json!({}));
        client.call("fs-journal/follow", true, call).await
    };
    let mut following = Vec::new();
    for _ in 0..FOLLOWERS_MAX {
        following.push(follow().await.unwrap());
    }
    let refused = follow().await.err().unwrap();
    assert_eq!(refused.kind, ErrorKind::Unavailable);
    assert!(refused.hint.is_some());
    for _ in 0..OPERATIONS_MAX {
        assert_eq!(world.get(&format!("{MCP}/health")).await.0, 200);
    }
    // Who leaves makes room.
    following.clear();
    let until = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while follow().await.is_err() {
        assert!(std::time::Instant::now() < until, "nobody left");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn an_export_follows_links_that_a_codec_hides_from_another() {
    use cidfs::block::{DAG_PB, RAW};
    let mut dag = Dag::default();
    let leaf = dag.leaf("below");
    let node = dag.directory(&[("leaf", leaf)]);
    let bytes = dag.blocks.last().unwrap().data().clone();
    let same = dag.block(RAW, bytes);
    assert_eq!((node.hash(), node.codec()), (same.hash(), DAG_PB));
    let root = dag.directory(&[("a bytes", same), ("b node", node)]);
    let world = World::new(dag);
    let client = Client::find(world.dir.path()).await.unwrap().unwrap();
    let call = Call::with(json!({"paths": [root.to_string()]}));
    let Output::Bytes { stream, .. } = client.call("ipfs/export", true, call).await.unwrap() else {
        panic!("bytes")
    };
    let pieces: Vec<_> = stream.try_collect().await.unwrap();
    let mut reader = cidfs::car::CarReader::new(std::io::Cursor::new(pieces.concat())).unwrap();
    let mut cids = Vec::new();
    while let Some(section) = reader.next_section().unwrap() {
        cids.push(*section.cid());
    }
    assert_eq!(cids, [root, same, node, leaf]);
}

#[tokio::test]
async fn wrong_parameters_are_refused_with_their_name() {
    let world = World::new(Dag::default());
    for (params, named) in [
        (r#"{"path": "x", "colour": 1}"#, "colour"),
        (r#"{"path": "x", "offset": -1}"#, "offset"),
        (r#"{"path": "x", "offset": "many"}"#, "offset"),
        (r"{}", "path"),
        (r#"{"path": 5}"#, "path"),
        (r#"["path"]"#, "object"),
        (r#"{"path": "#, "JSON"),
    ] {
        let (status, answer) = world.post(&format!("{MCP}/ipfs/cat"), params).await;
        assert_eq!(status, 400, "{params}: {answer}");
        assert_eq!(answer["error"]["kind"], "invalid");
        let message = answer["error"]["message"].as_str().unwrap();
        assert!(message.contains(named), "{params}: {message}");
    }
}

#[tokio::test]
async fn what_changes_something_wants_post() {
    let world = World::new(Dag::default());
    let (status, answer) = world.get(&format!("{MCP}/shutdown")).await;
    assert_eq!((status, &answer["error"]["kind"]), (405, &json!("method")));
    assert!(!world.ended.0.load(Ordering::SeqCst));
    let (status, _) = world.post(&format!("{MCP}/shutdown"), "").await;
    assert_eq!(status, 200);
    assert!(world.ended.0.load(Ordering::SeqCst));
}

#[tokio::test]
async fn other_methods_are_not_allowed_and_head_is_a_get_without_bytes() {
    let world = World::new(Dag::default());
    let answer = async |method: &str, name: &str| {
        let request =
            format!("{method} {MCP}/{name} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        String::from_utf8(world.whole(request.as_bytes()).await).unwrap()
    };
    for (method, name, allowed) in [
        ("PUT", "health", "allow: GET, HEAD, POST\r\n"),
        ("DELETE", "fs-journal/ls", "allow: GET, HEAD, POST\r\n"),
        ("GET", "fs-journal/mkdir", "allow: POST\r\n"),
        ("HEAD", "fs-journal/mkdir", "allow: POST\r\n"),
    ] {
        let got = answer(method, name).await;
        assert!(got.starts_with("HTTP/1.1 405 "), "{method} {name}: {got}");
        assert!(got.contains(allowed), "{method} {name}: {got}");
    }
    let head = answer("HEAD", "health").await;
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    assert!(head.ends_with("\r\n\r\n"), "no body: {head}");
}

#[tokio::test]
async fn parameters_over_the_limit_are_refused() {
    let world = World::new(Dag::default());
    let params = format!(r#"{{"path": "{}"}}"#, "x".repeat(PARAMS_BYTES_MAX));
    let (status, answer) = world.post(&format!("{MCP}/ipfs/stat"), &params).await;
    assert_eq!(status, 413, "{answer}");
    assert_eq!(answer["error"]["kind"], "too_large");
}

#[tokio::test]
async fn a_limit_of_a_parameter_holds() {
    let (dag, root) = bytes_of("x");
    let world = World::new(dag);
    for limit in [0, 10_001] {
        let path = format!("{MCP}/ipfs/ls?path={root}&limit={limit}");
        let (status, answer) = world.get(&path).await;
        assert_eq!((status, &answer["error"]["kind"]), (400, &json!("invalid")));
    }
}

#[tokio::test]
async fn what_is_not_http_closes_the_connection_and_nothing_else() {
    let world = World::new(Dag::default());
    for rubbish in [&b"\0\0\0\0\r\n\r\n"[..], b"GET\r\n\r\n", &[0xff; 200_000]] {
        let (status, _) = world.raw(rubbish).await;
        assert!(matches!(status, 0 | 400 | 431), "{status}");
    }
    assert_eq!(world.get(&format!("{MCP}/health")).await.0, 200);
}

#[tokio::test]
async fn mounts_are_added_listed_and_removed() {
    let world = World::new(Dag::default());
    let (status, _) = world
        .post(&format!("{MCP}/mounts/add"), r#"{"dir": "relative"}"#)
        .await;
    assert_eq!(status, 400);
    let (status, answer) = world
        .post(&format!("{MCP}/mounts/add"), r#"{"dir": "/a"}"#)
        .await;
    assert_eq!((status, &answer["mount"]["source"]), (200, &json!("/")));
    let (_, listed) = world.get(&format!("{MCP}/mounts/list")).await;
    assert_eq!(listed["mounts"][0]["dir"], "/a");
    let remove = format!("{MCP}/mounts/remove");
    let (status, answer) = world.post(&remove, r#"{"dir": "/a"}"#).await;
    assert_eq!((status, &answer["error"]["kind"]), (409, &json!("busy")));
    let (status, _) = world.post(&remove, r#"{"dir": "/a", "lazy": true}"#).await;
    assert_eq!(status, 200);
}

#[tokio::test]
async fn a_range_of_a_file_comes_as_raw_bytes() {
    let (dag, root) = bytes_of("hello world");
    let world = World::new(dag);
    let request =
        format!("GET {MCP}/ipfs/cat?path={root}/a&offset=6&length=3 HTTP/1.0\r\nhost: x\r\n\r\n");
    let (status, body) = world.raw(request.as_bytes()).await;
    assert_eq!((status, body.as_slice()), (200, &b"wor"[..]));
}

#[tokio::test]
async fn an_absent_name_is_not_found_and_absent_content_is_unavailable() {
    let (mut dag, root) = bytes_of("x");
    let lost = Dag::default().leaf("lost");
    let broken = dag.file(&[(lost, 4)]);
    let world = World::new(dag);
    let (status, answer) = world.get(&format!("{MCP}/ipfs/stat?path={root}/c")).await;
    assert_eq!(
        (status, &answer["error"]["kind"]),
        (404, &json!("not_found"))
    );
    let (status, answer) = world.get(&format!("{MCP}/ipfs/stat?path={lost}")).await;
    assert_eq!(
        (status, &answer["error"]["kind"]),
        (503, &json!("unavailable"))
    );
    let (status, _) = world.get(&format!("{MCP}/ipfs/stat?path={broken}")).await;
    assert_eq!(status, 200);
}

#[tokio::test]
async fn a_stream_that_breaks_off_is_never_taken_for_the_whole() {
    let mut dag = Dag::default();
    let good = dag.leaf(vec![1; 1 << 20]);
    let lost = Dag::default().leaf(vec![2; 1 << 20]);
    let file = dag.file(&[(good, 1 << 20), (lost, 1 << 20)]);
    let world = World::new(dag);
    // Without trailers the connection ends before the last chunk.
    let request =
        format!("GET {MCP}/ipfs/cat?path={file} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    let (_, body) = world.raw(request.as_bytes()).await;
    assert!(!body.ends_with(b"0\r\n\r\n"));
    // With trailers the error says why.
    let client = Client::find(world.dir.path()).await.unwrap().unwrap();
    let call = Call::with(json!({"path": file.to_string()}));
    let Output::Bytes { stream, .. } = client.call("ipfs/cat", true, call).await.unwrap() else {
        panic!("JSON")
    };
    let error = stream.try_for_each(|_| async { Ok(()) }).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unavailable);
    assert!(error.message.contains(&lost.to_string()), "{error}");
}

#[tokio::test]
async fn a_listing_is_paged_and_tells_what_it_could_not_look_at() {
    let mut dag = Dag::default();
    let file = dag.leaf("x");
    let lost = Dag::default().directory(&[("x", file)]);
    let root = dag.directory(&[("a", file), ("b", lost), ("c", file)]);
    let world = World::new(dag);
    let (_, page) = world
        .get(&format!("{MCP}/ipfs/ls?path={root}&offset=1&limit=1"))
        .await;
    assert_eq!(page["total"], 3);
    let entries = page["entries"].as_array().unwrap();
    assert_eq!(entries.len(), 1);
    assert_eq!(
        (&entries[0]["name"], &entries[0]["kind"]),
        (&json!("b"), &Value::Null)
    );
    assert!(entries[0]["error"].is_string());
}

#[tokio::test]
async fn an_archive_holds_the_tree_with_links_and_long_names() {
    let mut dag = Dag::default();
    let file = dag.leaf("hello");
    let link = dag.symlink("target/of link");
    let long = "n".repeat(255);
    let inner = dag.directory(&[(&long, file)]);
    let root = dag.directory(&[("dir", inner), ("link", link)]);
    let world = World::new(dag);
    let client = Client::find(world.dir.path()).await.unwrap().unwrap();
    let call = Call::with(json!({"path": root.to_string()}));
    let Output::Bytes { stream, .. } = client.call("ipfs/get", true, call).await.unwrap() else {
        panic!("JSON")
    };
    let bytes: Vec<_> = stream.try_collect().await.unwrap();
    let mut archive = tar::Archive::new(std::io::Cursor::new(bytes.concat()));
    let names: Vec<String> = archive
        .entries()
        .unwrap()
        .map(|entry| String::from_utf8(entry.unwrap().path_bytes().into_owned()).unwrap())
        .collect();
    let wanted = [
        root.to_string(),
        format!("{root}/dir"),
        format!("{root}/dir/{long}"),
        format!("{root}/link"),
    ];
    assert_eq!(names, wanted);
}

#[tokio::test]
async fn an_export_holds_every_block_once_and_is_a_car_file() {
    let (dag, root) = bytes_of("shared");
    let count = dag.blocks.len();
    let world = World::new(dag);
    let client = Client::find(world.dir.path()).await.unwrap().unwrap();
    let call = Call::with(json!({"paths": [root]}));
    let Output::Bytes { stream, .. } = client.call("ipfs/export", true, call).await.unwrap() else {
        panic!("JSON")
    };
    let bytes: Vec<_> = stream.try_collect().await.unwrap();
    let mut car = cidfs::car::CarReader::new(std::io::Cursor::new(bytes.concat())).unwrap();
    assert_eq!(car.header().roots[0].to_string(), root);
    let mut sections = 0;
    while let Some(section) = car.next_section().unwrap() {
        cidfs::block::verify_bytes(section.cid(), &section.data).unwrap();
        sections += 1;
    }
    assert_eq!(sections, count);
}

#[tokio::test]
async fn the_api_document_names_every_operation_and_its_parameters() {
    let world = World::new(Dag::default());
    let (status, document) = world.get("/api/v0/openapi.json").await;
    assert_eq!(status, 200);
    assert_eq!(document["openapi"], "3.1.0");
    let registry = Registry::standard();
    for operation in registry.iter() {
        let item = &document["paths"][format!("{MCP}/{}", operation.name)];
        assert!(item["post"]["summary"].is_string(), "{}", operation.name);
        assert_eq!(
            item.get("get").is_none(),
            operation.mutates,
            "{}",
            operation.name
        );
        assert_eq!(
            operation.params["additionalProperties"], false,
            "{}",
            operation.name
        );
    }
}

#[tokio::test]
async fn a_socket_of_a_dead_daemon_is_replaced_and_only_the_owner_may_open_it() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("control.sock");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(Client::find(dir.path()).await.unwrap().is_none());
    let socket = cidfs::control::server::Socket::bind(dir.path()).unwrap();
    assert_eq!(
        std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o600
    );
    assert!(Client::find(dir.path()).await.unwrap().is_some());
    drop(socket);
    assert!(!path.exists());
}

#[tokio::test]
async fn a_repository_with_a_long_path_has_a_socket_all_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let deep = dir.path().join("d".repeat(100)).join("e".repeat(100));
    std::fs::create_dir_all(&deep).unwrap();
    let _socket = cidfs::control::server::Socket::bind(&deep).unwrap();
    assert!(Client::find(&deep).await.unwrap().is_some());
}

#[tokio::test]
async fn the_same_call_gives_the_same_in_process_and_over_the_socket() {
    let (dag, root) = bytes_of("hello");
    let world = World::new(dag);
    let client = Client::find(world.dir.path()).await.unwrap().unwrap();
    let params = json!({"path": format!("{root}/a")});
    let remote = client
        .call("ipfs/stat", false, Call::with(params.clone()))
        .await
        .unwrap();
    let context = Arc::clone(&world.context);
    let local = Registry::standard()
        .call(context, "ipfs/stat", Call::with(params))
        .await
        .unwrap();
    match (remote, local) {
        (Output::Json(remote), Output::Json(local)) => assert_eq!(remote, local),
        _ => panic!("bytes"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_expected_is_said_in_words() {
    let world = World::new(Dag::default());
    for (limit, wanted) in [("-1", "number `-1`"), ("x", "string \"x\"")] {
        let path = format!("{MCP}/fs-journal/transactions?limit={limit}");
        let (_, answer) = world.get(&path).await;
        let told = answer["error"]["message"].as_str().unwrap();
        assert!(told.contains("expected a number from 0"), "{told}");
        assert!(told.contains(wanted), "{told}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_without_bytes_is_refused_and_one_of_no_bytes_is_not() {
    let world = World::new(Dag::default());
    let path = "/api/v0/mcp/fs-journal/write?path=/f";
    let send = async |path: &str, more: &str, body: &str| {
        let head =
            format!("POST {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{more}\r\n{body}");
        let (status, answer) = world.raw(head.as_bytes()).await;
        let answer: Value = serde_json::from_slice(&answer).unwrap();
        (status, answer)
    };
    let octets = "content-type: application/octet-stream\r\n";
    let five = format!("{octets}content-length: 5\r\n");
    assert_eq!(send(path, &five, "hello").await.1["size"], 5);
    let sent = r#"{"path":"/f"}"#;
    let as_json = format!(
        "content-type: application/json\r\ncontent-length: {}\r\n",
        sent.len()
    );
    let bare = path.trim_end_matches("?path=/f");
    for (path, more, body) in [
        (bare, as_json.as_str(), sent),
        (path, "", ""),
        (path, octets, ""),
        (path, "content-length: 0\r\n", ""),
    ] {
        let (status, answer) = send(path, more, body).await;
        assert_eq!(
            (status, &answer["error"]["kind"]),
            (400, &json!("invalid")),
            "{more}"
        );
    }
    let stat = "/api/v0/mcp/fs-journal/stat?path=/f";
    assert_eq!(world.get(stat).await.1["size"], 5, "nothing was done");
    let text = send(&format!("{path}&text=hi"), "", "").await;
    assert_eq!(text.1["size"], 2);
    let empty = send(path, &format!("{octets}content-length: 0\r\n"), "").await;
    assert_eq!((empty.0, &empty.1["size"]), (200, &json!(0)));
    let chunked = format!("{octets}transfer-encoding: chunked\r\n");
    assert_eq!(send(path, &chunked, "0\r\n\r\n").await.0, 200);
    assert_eq!(world.get(stat).await.1["size"], 0);
}
