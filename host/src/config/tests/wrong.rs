//! Wrong files and the exact sentences about them.

/// Lines at the end of the smallest file (they begin on line 11, in its processor), and what is said of them.
pub(super) const LINES: &[(&str, &[&str])] = &[
    (r#"btach = {}"#, &[r#"line 11: processor[delays].btach is unknown; did you mean "batch"?"#]),
    (
        r#"xyzzy = 1"#,
        &[
            r#"line 11: processor[delays].xyzzy is unknown; there are name, module, event-hub, consumer-group, start, max-partitions, partitions, on-missing-events, prefetch, owner-level, stall-timeout, batch, checkpoint, retry, on-poison, breaker, publish, reconnect, limits, grants, config, outputs, dead-letter, namespace"#,
        ],
    ),
    (
        r#"linger = "50 ms""#,
        &[r#"line 11: processor[delays].linger is unknown here; it belongs under "batch": batch = { linger = … }"#],
    ),
    (
        r#"consumer_group = "a""#,
        &[r#"line 11: processor[delays].consumer_group is unknown; did you mean "consumer-group"?"#],
    ),
    (
        r#"consumer-group = "a b""#,
        &[
            r#"line 11: processor[delays].consumer-group = "a b" is not the name of a consumer group; write it like "$default""#,
        ],
    ),
    (
        r#"consumer-group = 7"#,
        &[
            r#"line 11: processor[delays].consumer-group = 7 is not the name of a consumer group; write it like "$default""#,
        ],
    ),
    (r#"prefetch = 0"#, &[r#"line 11: processor[delays].prefetch = 0 is not a whole number from 1 to 100000"#]),
    (
        r#"prefetch = "many""#,
        &[r#"line 11: processor[delays].prefetch = "many" is not a whole number from 1 to 100000"#],
    ),
    (
        r#"batch = { linger = 50 }"#,
        &[r#"line 11: processor[delays].batch.linger = 50 has no unit; write it like "250 ms", "10 s" or "5 min""#],
    ),
    (
        r#"batch = { linger = "50 sec", bytes = "1 M", event = 5 }"#,
        &[
            r#"line 11: processor[delays].batch.bytes = "1 M" is ambiguous; write "1 MiB" (powers of 1024) or "1 MB" (powers of 1000)"#,
            r#"line 11: processor[delays].batch.event is unknown; did you mean "events"?"#,
        ],
    ),
    (r#"batch = 5"#, &[r#"line 11: processor[delays].batch = 5 is not a table; write it as { events = … }"#]),
    (
        r#"batch = { linger = "2 h" }"#,
        &[r#"line 11: processor[delays].batch.linger = "2 h" is not a duration between "0 ms" and "1 h""#],
    ),
    (
        r#"batch = { bytes = "40 MiB" }"#,
        &[
            r#"line 11: processor[delays].batch.bytes = "40 MiB" is more than half of limits.memory (64 MiB): a batch is copied into the instance, beside the module's own data, and a full one would end as out of memory each time; write at most batch.bytes = "32 MiB", or at least limits.memory = "80 MiB""#,
        ],
    ),
    (
        r#"grants = { clock = true }"#,
        &[r#"line 11: processor[delays].grants.clock is unknown; did you mean "clocks"?"#],
    ),
    (
        r#"grants = { directories = { "data" = "./data" } }"#,
        &[
            r#"line 11: processor[delays].grants.directories = { "data" = "./data" } has a path that does not begin with "/"; the module sees it as an absolute one: "data""#,
        ],
    ),
    (
        r#"grants = { environment = { "A=B" = "x" } }"#,
        &[
            r#"line 11: processor[delays].grants.environment = { "A=B" = "x" } has a name that no variable can have: "A=B""#,
        ],
    ),
    (
        r#"grants = { environment = { A = 1 } }"#,
        &[
            r#"line 11: processor[delays].grants.environment = { A = 1 } is not a table of texts; write it like { NAME = "value" }"#,
        ],
    ),
    (
        r#"grants = { secrets = { a = {}, b = { env = "MISSING" }, c = { env = "${TOKEN}" }, d = { env = "TOKEN", file = "x" } } }"#,
        &[
            r#"line 11: processor[delays].grants.secrets.a names no place; add env = "VARIABLE" or file = "/run/secrets/…""#,
            r#"line 11: processor[delays].grants.secrets.b.env = "MISSING" needs the environment variable MISSING, which is not set"#,
            r#"line 11: processor[delays].grants.secrets.c.env = "${TOKEN}" is not the name of a variable; use letters, digits and _, without "$""#,
            r#"line 11: processor[delays].grants.secrets.d.file = "x" stands beside env, and a secret has one place; remove one of them"#,
        ],
    ),
    (
        r#"grants = { http = {} }"#,
        &[
            r#"line 11: processor[delays].grants.http.allow is missing (scheme, host and port that requests may go to); add allow = ["https://api.example.com", "http://10.1.2.3:8080", "https://*.example.org"]"#,
        ],
    ),
    (
        r#"grants = { http = { allow = ["https://a.example/path"], networks = ["10.0.0.1/40"] } }"#,
        &[
            r#"line 11: processor[delays].grants.http.allow = ["https://a.example/path"] holds "https://a.example/path", which has more than scheme, host and port, and nothing else is checked; write it like "https://api.example.com", "http://10.1.2.3:8080" or "https://*.example.com""#,
            r#"line 11: processor[delays].grants.http.networks = ["10.0.0.1/40"] holds "10.0.0.1/40", which is no network; write it like "10.1.0.0/16" or "10.1.2.3/32""#,
        ],
    ),
    (
        r#"retry = { backoff = "1 min" }"#,
        &[
            r#"line 11: processor[delays].retry.backoff = "1 min" is longer than the longest pause, max-backoff (30 s); write at least max-backoff = "1 min""#,
        ],
    ),
    (
        r#"start = "newest""#,
        &[
            r#"line 11: processor[delays].start = "newest" is not a start position; write "earliest", "latest", { sequence-number = 42 } or { enqueued-time = "2026-01-01T00:00:00Z" }"#,
        ],
    ),
    (
        r#"start = { enqueued-time = "yesterday" }"#,
        &[
            r#"line 11: processor[delays].start = { enqueued-time = "yesterday" } holds no instant; write date, time and zone, such as "2026-01-01T00:00:00Z""#,
        ],
    ),
    (
        r#"start = { enqueued-time = 2026-01-01 }"#,
        &[
            r#"line 11: processor[delays].start = { enqueued-time = 2026-01-01 } holds no instant; write date, time and zone, such as "2026-01-01T00:00:00Z""#,
        ],
    ),
    (r#"config = 5"#, &[r#"line 11: processor[delays].config = 5 is not a table; write it as { key = "value" }"#]),
    (
        r#"config = { key = "${MISSING}", other = "${ALSO_MISSING}" }"#,
        &[
            r#"line 11: processor[delays].config = { key = "${MISSING}", other = "${ALSO_MISSING}" } needs the environment variable MISSING, which is not set; needs the environment variable ALSO_MISSING, which is not set"#,
        ],
    ),
    (
        r#"[processor.outputs.default]"#,
        &[
            r#"line 11: processor[delays].outputs.default has no destination; add event-hub = "…", file = "…" or stdout = true"#,
        ],
    ),
    (
        r#"[processor.outputs.default]
file = "a"
stdout = true"#,
        &[r#"line 11: processor[delays].outputs.default has 2 destinations (file, stdout); keep one"#],
    ),
    (
        r#"[processor.outputs.default]
stdout = false"#,
        &[
            r#"line 12: processor[delays].outputs.default.stdout = false leads nowhere; write stdout = true, or another destination"#,
        ],
    ),
    (
        r#"[processor.outputs.default]
directory = "a""#,
        &[
            r#"line 11: processor[delays].outputs.default has no destination; add event-hub = "…", file = "…" or stdout = true"#,
            r#"line 12: processor[delays].outputs.default.directory is unknown; there are event-hub, file, stdout, namespace"#,
        ],
    ),
    (
        r#"[processor.outputs.default]
file = "a"
namespace = { fully-qualified-namespace = "x.y" }"#,
        &[
            r#"line 13: processor[delays].outputs.default.namespace = { fully-qualified-namespace = "x.y" } goes with event-hub only; remove it"#,
        ],
    ),
    (
        r#"[processor.outputs.default]
event-hub = "Flights""#,
        &[
            r#"line 9: processor[delays].event-hub = "flights" is also where outputs.default goes: the processor would read its own outputs, endlessly; choose another hub for outputs.default"#,
        ],
    ),
    (
        r#"[processor.outputs.default]
event-hub = "${BAD_HUB}""#,
        &[
            r#"line 12: processor[delays].outputs.default.event-hub = "${BAD_HUB}" is not the name of an event hub; write it like "flights""#,
        ],
    ),
    (
        r#"[processor.outputs."no name"]
stdout = true"#,
        &[r#"line 11: processor[delays].outputs.no name is not a name; use letters, digits, "-", "_" and ".""#],
    ),
    (
        r#"[processor.outputs]
event-hub = "late""#,
        &[r#"line 12: processor[delays].outputs.event-hub = "late" is not a table; write it as { event-hub = … }"#],
    ),
    (
        r#"[[processor]]
name = "delays"
module = "m.wasm"
event-hub = "other""#,
        &[
            r#"line 12: processor[delays].name = "delays" is taken by the processor on line 6: logs and checkpoints could not be told apart; choose another"#,
        ],
    ),
    (
        r#"[[processor]]
name = "copies"
module = "m.wasm"
event-hub = "Flights""#,
        &[
            r#"line 11: processor[copies].consumer-group and this event-hub are read by the processor delays already: both would write the same checkpoints, and each would skip what the other finished; give this one a consumer-group of its own"#,
        ],
    ),
    (
        r#"[[processor]]
name = "copies"
module = "m.wasm"
event-hub = "b"
[processor.outputs.default]
file = "./rejected.ndjson""#,
        &[
            r#"line 11: processor[copies] writes to the file "/etc/weir/rejected.ndjson" as the processor delays does: after a crash neither could tell its own last line; give each its own file"#,
        ],
    ),
    (
        r#"[[processor]]"#,
        &[
            r#"line 11: processor[#2].name is missing (what logs, errors and tables call it); add name = "delays""#,
            r#"line 11: processor[#2].module is missing (the component to run); add module = "delays.wasm""#,
            r#"line 11: processor[#2].event-hub is missing (the hub to read); add event-hub = "flights""#,
        ],
    ),
    (
        r#"namespace = { fully-qualified-namespace = "sb://fleet.servicebus.windows.net/" }"#,
        &[
            r#"line 11: processor[delays].namespace.fully-qualified-namespace = "sb://fleet.servicebus.windows.net/" has a scheme; write the host name alone: drop "sb://", leaving "fleet.servicebus.windows.net""#,
        ],
    ),
    (
        r#"namespace = { fully-qualified-namespace = "Endpoint=sb://fleet/;SharedAccessKey=hunter2" }"#,
        &[
            r#"line 11: processor[delays].namespace.fully-qualified-namespace = (hidden) is a connection string; write the host name alone, such as "fleet.servicebus.windows.net", and choose a credential"#,
        ],
    ),
    (
        r#"namespace = { fully-qualified-namespace = "localhost", endpoint = "amqp://127.0.0.1:5672" }"#,
        &[
            r#"line 11: processor[delays].namespace.credential would send this machine's token unencrypted over the plain endpoint; write credential = "none" for a local namespace, or an "amqps://" endpoint"#,
        ],
    ),
    (
        r#"namespace = { fully-qualified-namespace = "localhost", credential = "none" }"#,
        &[
            r#"line 11: processor[delays].namespace.credential = "none" only goes with a plain endpoint: a real namespace refuses who doesn't identify itself; choose "default" or another credential, or add endpoint = "amqp://127.0.0.1:5672" for a local namespace"#,
        ],
    ),
    (
        r#"namespace = { fully-qualified-namespace = "localhost", endpoint = "127.0.0.1:5672" }"#,
        &[
            r#"line 11: processor[delays].namespace.endpoint = "127.0.0.1:5672" is not an endpoint; write it like "amqp://127.0.0.1:5672" or "amqps://gateway.example""#,
        ],
    ),
    (
        r#"namespace = { fully-qualified-namespace = "localhost", credential = "sas" }"#,
        &[
            r#"line 11: processor[delays].namespace.credential = "sas" is not one of "default", "managed-identity", "workload-identity", "cli" or "none""#,
        ],
    ),
    (
        r#"[host]
memory = "1 MiB""#,
        &[
            r#"line 12: host.memory = "1 MiB" is too small for the batches: a partition holds one batch while it gathers the next, so one partition of each processor already needs 2 MiB; write at least memory = "2 MiB" (about 2 MiB × the number of partitions is comfortable), or a smaller batch.bytes"#,
        ],
    ),
    (
        r#"[host]
shutdown_deadline = "1 s"
guest-threads = -1"#,
        &[
            r#"line 12: host.shutdown_deadline is unknown; did you mean "shutdown-deadline"?"#,
            r#"line 13: host.guest-threads = -1 is not a whole number from 1 to 1024"#,
        ],
    ),
];

/// Whole files.
pub(super) const FILES: &[(&str, &[&str])] = &[
    (
        r#""#,
        &[
            r#"line 1: checkpoints is missing (where progress is kept); add a [checkpoints] section"#,
            r#"line 1: processor is missing (a module and the event hub that it reads); add a [[processor]] section"#,
        ],
    ),
    (
        r#"[checkpoints]
directory = "c"
[[processor]]
name = "a"
module = "m"
event-hub = "h""#,
        &[
            r#"line 3: processor[a].namespace is missing, here and for the file; add a [namespace] section with fully-qualified-namespace"#,
        ],
    ),
    (
        r#"processor = []
[checkpoint]
directory = "c""#,
        &[
            r#"line 1: checkpoints is missing (where progress is kept); add a [checkpoints] section"#,
            r#"line 1: processor = [] is empty; add a [[processor]] section"#,
            r#"line 2: checkpoint is unknown; did you mean "checkpoints"?"#,
        ],
    ),
    (
        r#"[namespace
fully-qualified-namespace = "a"
x = = 5
"#,
        &[
            r#"line 1: not TOML: unclosed table, expected `]`"#,
            r#"line 3: not TOML: extra `=`, expected nothing"#,
            r#"line 3: not TOML: unexpected key or value, expected newline, `#`"#,
        ],
    ),
    (
        r#"processor = 5
checkpoints = "here""#,
        &[
            r#"line 1: processor = 5 is not a list of tables; begin each with [[processor]]"#,
            r#"line 2: checkpoints = "here" is not a table; write it as { directory = … }"#,
        ],
    ),
];
