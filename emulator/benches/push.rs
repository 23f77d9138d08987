//! What pushing events costs: CPU of the server's thread per 1 KiB event, to a consumer that only reads bytes.
//!
//! `cargo bench -p weir-emulator --bench push`. Targets: at most 0.6 µs an event, at least 1 M events a second and core.
//! The server runs on a thread of its own, whose CPU time (user and system) is read from the kernel; the consumer is a
//! plain socket on another thread. Taking events in is measured beside it, without a socket.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use bytes::{Buf as _, Bytes};
use weir_amqp::engine::{ClientSasl, Connection, ConnectionConfig, Event, SessionConfig};
use weir_amqp::performative::Attach;
use weir_emulator::model::{LogState, Retention};
use weir_emulator::{Emulator, EmulatorConfig, Incoming};

const EVENTS: usize = 1_000_000;
const BATCH: usize = 800;
const ROUNDS: usize = 5;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (address_out, address) = mpsc::sync_channel(1);
    let (stop, stopped) = tokio::sync::oneshot::channel();
    let server = std::thread::spawn(move || -> Result<(), String> {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| error.to_string())?;
        runtime.block_on(async move {
            let config = EmulatorConfig {
                listen: "127.0.0.1:0".into(),
                hubs: vec!["bench:1".parse().map_err(|error| format!("{error}"))?],
                retention: Retention { bytes: 4 << 30, ..Retention::default() },
                ..EmulatorConfig::default()
            };
            let emulator = Emulator::start(config).await.map_err(|error| error.to_string())?;
            let (state, took) = fill(&emulator)?;
            println!("taking in    {:>8.3} µs CPU an event, in batches of {BATCH}", micros(took));
            println!("             {:>8.0} bytes an event in the log", state.bytes as f64 / EVENTS as f64);
            address_out.send((emulator.address(), thread_cpu_clock())).map_err(|error| error.to_string())?;
            stopped.await.map_err(|error| error.to_string())?;
            emulator.shutdown().await;
            Ok(())
        })
    });
    let (address, server_cpu) = address.recv()?;
    for round in 1..=ROUNDS {
        let (cpu, started) = (server_cpu.now()?, Instant::now());
        consume(address)?;
        let (cpu, wall) = (server_cpu.now()? - cpu, started.elapsed());
        println!(
            "pushing  {round}   {:>8.3} µs CPU an event, {:>5.2} M events/s of server CPU, {:>5.2} M events/s by the clock",
            micros(cpu),
            EVENTS as f64 / cpu.as_secs_f64() / 1e6,
            EVENTS as f64 / wall.as_secs_f64() / 1e6,
        );
    }
    stop.send(()).map_err(|()| "the server has ended already")?;
    server.join().map_err(|_| "the server's thread panicked")??;
    Ok(())
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6 / EVENTS as f64
}

fn fill(emulator: &Emulator) -> Result<(LogState, Duration), String> {
    let mut tail = vec![0x00, 0x53, 0x75, 0xb0, 0, 0, 4, 0];
    tail.resize(8 + 1024, b'x');
    let batch = vec![Incoming { tail: tail.into(), ..Incoming::default() }; BATCH];
    let clock = thread_cpu_clock();
    let before = clock.now().map_err(|error| error.to_string())?;
    for _ in 0..EVENTS / BATCH {
        emulator.namespace().publish("bench", 0, &batch).map_err(|error| error.to_string())?;
    }
    let took = clock.now().map_err(|error| error.to_string())? - before;
    let hub = emulator.namespace().hub("bench").map_err(|error| error.to_string())?;
    Ok((hub.partition("0").ok_or("the partition")?.state(0), took))
}

/// Attaches with the engine, gives credit for everything, and then only counts bytes.
fn consume(address: SocketAddr) -> Result<(), Box<dyn std::error::Error>> {
    let mut stream = TcpStream::connect(address)?;
    let mut engine = Connection::client(ConnectionConfig::new("bench"), ClientSasl::anonymous(), Instant::now());
    let mut buffer = vec![0; 1 << 20];
    let session = loop {
        step(&mut stream, &mut engine, &mut buffer)?;
        // Nothing but the open can come yet.
        if std::iter::from_fn(|| engine.next_event()).any(|event| matches!(event, Event::Opened(_))) {
            let config = SessionConfig { incoming_window: 1 << 30, ..SessionConfig::default() };
            break engine.begin(&config)?;
        }
    };
    let mut attach = Attach::receiver("bench", "bench/ConsumerGroups/$default/Partitions/0");
    attach.snd_settle_mode = weir_amqp::performative::SenderSettleMode::Settled;
    let link = engine.attach(session, attach)?;
    while !std::iter::from_fn(|| engine.next_event()).any(|event| matches!(event, Event::Attached { .. })) {
        step(&mut stream, &mut engine, &mut buffer)?;
    }
    engine.set_credit(link, u32::try_from(EVENTS)?)?;
    flush(&mut stream, &mut engine)?;
    let mut received = 0;
    while received < EVENTS * 1024 {
        received += match stream.read(&mut buffer)? {
            0 => return Err("the server hung up".into()),
            read => read,
        };
    }
    Ok(())
}

fn step(stream: &mut TcpStream, engine: &mut Connection, buffer: &mut [u8]) -> std::io::Result<()> {
    flush(stream, engine)?;
    let read = stream.read(buffer)?;
    engine.feed(Bytes::copy_from_slice(&buffer[..read]), Instant::now());
    Ok(())
}

fn flush(stream: &mut TcpStream, engine: &mut Connection) -> std::io::Result<()> {
    while engine.output().has_remaining() {
        let written = stream.write(engine.output().chunk())?;
        engine.output().advance(written);
    }
    Ok(())
}

/// The CPU time of one thread, as the kernel counts it.
struct CpuClock(String);

fn thread_cpu_clock() -> CpuClock {
    let path = std::fs::read_link("/proc/thread-self").unwrap_or_default();
    CpuClock(format!("/proc/{}/schedstat", path.display()))
}

impl CpuClock {
    fn now(&self) -> std::io::Result<Duration> {
        // Nanoseconds on a CPU, nanoseconds waiting, slices.
        let text = std::fs::read_to_string(&self.0)?;
        let on_cpu = text.split(' ').next().and_then(|field| field.parse().ok());
        on_cpu.map(Duration::from_nanos).ok_or_else(|| std::io::Error::other("no schedstat in this kernel"))
    }
}
